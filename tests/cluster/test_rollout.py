"""A rollout of new code: every process is replaced, no prediction fails, and the state is unchanged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
from caller import Caller
from named_actors import end_actors
from processes import named
from small_system import System, samples

from actors.remote.placement import StoreRef
from benchmarks.lib.background import meanwhile
from cluster.rollout import roll
from cluster.runtime import coordinator_of, free_port
from cluster.service import start_service, stop_service
from lmeraser.client.client import Client
from lmeraser.config import Config, ServingConfig
from lmeraser.errors import NotReadyError

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]
SystemOf = Callable[..., System]
ROOT = Path(__file__).parent.parent.parent
ACTORS = ("ray::CoordinatorActor", "ray::OwnerActor", "ray::ServeReplica")


def processes() -> set[int]:
    return {pid for name in ACTORS for pid in named(name)}


def test_all_processes_are_replaced_while_predictions_are_answered(system_of: SystemOf) -> None:
    system = system_of()
    site = StoreRef(system.store.uri, str(system.keys))
    coordinator = coordinator_of(site, system.manifest)
    term = ray.get(coordinator.status.remote()).term
    url = start_service(system.store, system.keys, ServingConfig(), "127.0.0.1", free_port())
    try:
        caller = Caller(url)
        with Client(url) as client, meanwhile(caller.until):
            # This deletion still waits for its tuning when the rollout begins.
            deletion = client.delete(sample_ids=["s3"])
            client.wait(deletion.id, status="erased", timeout_s=200)
            before = processes()
            with pytest.raises(NotReadyError, match=r"no node has 2\.7 CPU free"):
                roll(site, Config(serving=ServingConfig(threads=3)), lambda *_: None)
            assert processes() >= before
            result = rolled(system)
            after = processes()
            client.wait(deletion.id, timeout_s=200)
    finally:
        stop_service()
        end_actors(system.manifest.store_id)
    assert caller.answers > 10
    assert caller.failed == []
    assert before and after and before.isdisjoint(after)
    assert (result["service"], result["term"] > term) == (True, True)
    assert system.newest().root == system.fresh_root([row for row in samples(0, 90) if row.sample_id != "s3"])


def rolled(system: System) -> dict[str, Any]:
    """The result of the command, in a separate process whose code is rolled out."""
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "cluster.cli", "rollout", "--json"),
            *("--store", system.store.uri, "--keys", str(system.keys)),
        ],
        env={**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    result: dict[str, Any] = json.loads(ran.stdout)
    return result


def test_a_rollout_without_a_running_coordinator_is_refused(system_of: SystemOf) -> None:
    system = system_of()
    with pytest.raises(NotReadyError, match="nothing to replace"):
        roll(StoreRef(system.store.uri, str(system.keys)), Config(), lambda *_: None)
