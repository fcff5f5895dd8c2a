"""A slice of the campaign of kills; ``make faults`` runs all of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from crash_points import RANDOM

from actors.fail_points import FailPoint

CAMPAIGN = Path(__file__).parent / "crash_points.py"
TAKEOVERS = Path(__file__).parent / "takeovers.py"


def run(*command: object) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_deletion_that_is_killed_at_any_fail_point_is_carried_out_once_and_exactly() -> None:
    printed = run(CAMPAIGN, "--runs", 1)
    assert [line.partition(" Tally(")[0] for line in printed.splitlines() if " Tally(" in line] == [*FailPoint, RANDOM]


@pytest.mark.slow
def test_a_coordinator_that_is_replaced_at_any_fail_point_removes_nothing_of_its_successor() -> None:
    assert run(TAKEOVERS, "--every", 9).count("0 wrong") == 45
