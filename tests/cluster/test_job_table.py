"""No id stays in Ray's table of jobs or in the list of processes, and if one does, ``residue`` finds it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from ray_head import Head, ray_head
from small_system import System, samples

ERASED = "patient-0417"
LISTS = "import sys; from cluster.job_table import job_table; print(job_table())"
KEEPS = "import ray; from cluster.runtime import connect; connect(); ray.shutdown()"


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with ray_head() as started:
        yield started


def command_lines(process: subprocess.Popen[str]) -> set[bytes]:
    """All command lines that the process showed until it ended, each lines once."""
    lines: set[bytes] = set()
    while process.poll() is None:
        try:
            lines.add((Path("/proc") / str(process.pid) / "cmdline").read_bytes())
        except (FileNotFoundError, ProcessLookupError):
            break
        time.sleep(0.01)
    return lines


@pytest.mark.ray
@pytest.mark.skipif(sys.platform != "linux", reason="command lines are read from /proc")
def test_ids_on_the_command_line_stay_out_of_rays_job_table_and_a_scan_finds_any(
    system_of: Callable[..., System], head: Head, tmp_path: Path
) -> None:
    system = system_of("minute", 0)
    rows = [
        replace(row, sample_id=ERASED if number == 3 else row.sample_id) for number, row in enumerate(samples(0, 24))
    ]
    system.ingest(rows)
    environment = {**head.environment, "RAY_ADDRESS": head.address}
    at = ("--store", system.store.uri, "--keys", str(system.keys))
    delete = ("delete", *at, "--sample-id", ERASED, "--idempotency-key", f"once {ERASED}", "--wait", "erased", "--json")
    with subprocess.Popen(["lmeraser", *delete], env=environment, text=True, stdout=subprocess.PIPE) as process:
        lines = command_lines(process)
        assert process.stdout is not None and '"rows": 1' in process.stdout.read()
    assert process.returncode == 0
    # The process list shows the id only while the program loads.
    assert any(line.startswith(b"lmeraser delete") and ERASED.encode() not in line for line in lines)
    listed = head.run(sys.executable, "-c", LISTS, RAY_ADDRESS=head.address).stdout
    assert "lmeraser delete" in listed and ERASED not in listed

    (tmp_path / "ids").write_text(f"{ERASED}\n")
    scan = ("lmeraser", "residue", *at, "--ids-file", str(tmp_path / "ids"))
    # Ray's folder is that of the machine here, and others write into it.
    clean = {"RAY_ADDRESS": head.address, "RAY_TMPDIR": str(tmp_path / "none")}
    ran = head.run(*scan, **clean)
    assert (ran.returncode, "clean" in ran.stdout) == (0, True), ran.stdout + ran.stderr
    head.run(sys.executable, "-c", KEEPS, ERASED, RAY_ADDRESS=head.address)
    ran = head.run(*scan, **clean)
    assert ran.returncode == 1 and "of Ray at " in ran.stdout and "holds the id" in ran.stdout
    # A Ray that does not show its jobs is a finding too.
    (tmp_path / "token").touch(mode=0o600)
    (tmp_path / "token").write_text("0" * 64)
    ran = head.run(*scan, **clean, RAY_AUTH_TOKEN_PATH=str(tmp_path / "token"))
    assert ran.returncode == 1 and "does not show its jobs" in ran.stdout
    ran = head.run(*scan, "--folder", str(tmp_path), **{**clean, "RAY_ADDRESS": "127.0.0.1:1"})
    assert ran.returncode == 1 and "Ray at 127.0.0.1:1 (RAY_ADDRESS): nothing answers" in ran.stdout
    assert head.run(*scan, **{**clean, "RAY_ADDRESS": "local"}).returncode == 0
