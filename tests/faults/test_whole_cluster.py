"""The whole Ray cluster is killed while a deletion runs; a new one on the same store finishes it."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import descendants, kill
from small_system import System, finish, samples

from lmeraser.state.log import Log
from lmeraser.state.record_bodies import deletions_of

pytestmark = pytest.mark.ray
SystemOf = Callable[..., System]
CLUSTER = Path(__file__).parent.parent / "support" / "one_cluster.py"


def start_and_kill(system: System, sample_id: str, after_s: float) -> str:
    """Start a cluster, let it accept a deletion, and kill every process of it; the deletion's id."""
    process = subprocess.Popen(
        [sys.executable, str(CLUSTER), system.store.uri, str(system.keys), sample_id],
        env={**os.environ, "RAY_ADDRESS": "local"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    deletion_id = process.stdout.readline().strip()
    time.sleep(after_s)
    # Parents first, so that nothing is restarted in between.
    for pid in [process.pid, *reversed(list(descendants(process.pid)))]:
        kill(pid)
    process.wait()
    process.stdout.close()
    return deletion_id


@pytest.mark.timeout(600)
def test_a_new_cluster_finishes_the_deletions_that_the_killed_one_accepted(system_of: SystemOf) -> None:
    system = system_of()
    chance = random.Random(0)
    accepted = [start_and_kill(system, name, chance.uniform(0.0, 1.5)) for name in ("s3", "s40")]
    assert all(accepted)
    coordinator = system.coordinator()
    finish(coordinator)
    assert [coordinator.deletion(each).status for each in accepted] == ["completed", "completed"]
    rows = [row for row in samples(0, 90) if row.sample_id not in ("s3", "s40")]
    assert system.newest().root == system.fresh_root(rows)
    # One record may be about several deletions.
    kinds = [record.kind for record in Log(system.store).advance() for _ in deletions_of(record)]
    assert (kinds.count("request"), kinds.count("erased"), kinds.count("completed")) == (2, 2, 2)
