"""A service keeps its coordinator running, and of two Ray clusters on one store only the newer one writes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import ray
from named_actors import end_actors
from small_system import System, picture, samples
from until import until

from cluster.runtime import free_port, running_coordinator
from cluster.service import start_service, stop_service
from lmeraser.client.client import Client
from lmeraser.config import ServingConfig
from lmeraser.state.log import Log

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]
SystemOf = Callable[..., System]
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def served(system_of: SystemOf) -> Iterator[tuple[System, str]]:
    """A service that nobody started a coordinator for."""
    system = system_of("minute", 24).with_lease(0.2)
    yield system, start_service(system.store, system.keys, ServingConfig(), "127.0.0.1", free_port())
    stop_service()
    end_actors(system.manifest.store_id)


@contextmanager
def served_by_another_ray(system: System) -> Iterator[str]:
    """The same store's service on a Ray of its own, as KubeRay runs it during an upgrade."""
    port = free_port()
    command = [sys.executable, "-m", "cluster.cli", "serve", "--store", system.store.uri, "--keys", str(system.keys)]
    environment = {**os.environ, "RAY_ADDRESS": "local"}
    process = subprocess.Popen(
        [*command, "--port", str(port)], env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert f"127.0.0.1:{port}" in process.stdout.readline()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.communicate()


def coordinator_of(system: System) -> Any | None:
    return running_coordinator(system.manifest.store_id, system.store.uri)


def erased(url: str, sample_id: str) -> None:
    """Delete a row, and wait until nothing more is to be done."""
    with Client(url) as client:
        client.wait(client.delete(sample_ids=[sample_id]).id, timeout_s=200)


def test_a_coordinator_that_is_killed_for_good_comes_back_and_finishes_deletions(served: tuple[System, str]) -> None:
    system, url = served
    with Client(url) as client:
        deletion = client.delete(sample_ids=["s3"])
        ray.kill(coordinator_of(system), no_restart=True)
        client.wait(deletion.id, timeout_s=200)
        ray.kill(coordinator_of(system), no_restart=True)
        client.wait(client.delete(sample_ids=["s4"]).id, timeout_s=200)
    left = [row for row in samples(0, 24) if row.sample_id not in ("s3", "s4")]
    assert system.newest().root == system.fresh_root(left)


def test_of_two_clusters_on_one_store_only_the_newer_one_writes(served: tuple[System, str]) -> None:
    system, url = served
    erased(url, "s3")
    with served_by_another_ray(system) as newer:
        erased(newer, "s4")
        refused = httpx2.post(f"{url}/v1/deletions", json={"sample_ids": ["s5"]}, timeout=60)
        assert refused.status_code == 503
        # The older one ends, is not started again, and its service answers from the other one's commits.
        until(lambda: coordinator_of(system) is None or None, 60)
        erased(newer, "s6")
        terms = [record.term for record in Log(system.store).advance()]
        for each in (url, newer):
            answer = httpx2.post(
                f"{each}/v1/predict", content=picture(400), headers={"Content-Type": "image/png"}, timeout=60
            )
            assert answer.json()["commit"] >= system.last_that_erased()
    assert terms == sorted(terms)
    left = [row for row in samples(0, 24) if row.sample_id not in ("s3", "s4", "s6")]
    assert system.newest().root == system.fresh_root(left)
    assert coordinator_of(system) is None
