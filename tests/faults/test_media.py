"""A slice of the runs on a disk that is full or read-only; ``make faults`` runs all of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

MEDIA = Path(__file__).parent / "disk_faults.py"
ALLOWED = "mount -t tmpfs tmpfs /mnt && umount /mnt"


@pytest.fixture(scope="module")
def mounting() -> list[str]:
    """What to put before a command that mounts."""
    for before in ([], ["unshare", "-rm"]):
        try:
            if subprocess.run([*before, "sh", "-c", ALLOWED], capture_output=True, check=False).returncode == 0:
                return before
        except FileNotFoundError:
            continue
    pytest.skip("neither this user nor `unshare -rm` may mount a tmpfs here")


@pytest.mark.slow
def test_a_deletion_on_a_disk_that_fails_is_refused_or_carried_out_once_and_exactly(mounting: list[str]) -> None:
    done = subprocess.run(
        [*mounting, sys.executable, str(MEDIA), "--every", "3"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| full | write " in done.stdout and "| read-only | " in done.stdout
    assert "commands that only read" in done.stdout
