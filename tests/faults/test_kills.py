"""A slice of the campaign of kills; ``make faults`` runs all of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CAMPAIGN = Path(__file__).parent / "campaign.py"


@pytest.mark.slow
def test_a_deletion_that_is_killed_at_any_boundary_is_carried_out_once_and_exactly() -> None:
    done = subprocess.run(
        [sys.executable, str(CAMPAIGN), "--runs", "1"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("runs=") == 18
