"""Only a limited number of owners have a process, and the jobs of all owners are done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from named_actors import end_actors
from processes import named
from small_system import System, samples
from until import until

from actors.remote.placement import StoreRef
from benchmarks.lib.background import meanwhile
from cluster.runtime import coordinator_of
from lmeraser.config import OwnersConfig
from lmeraser.data import Sample
from lmeraser.deletion import DeletionRequest

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]
SystemOf = Callable[..., System]
MOST = 2
LONGEST_S = 120.0


@pytest.fixture
def few(system_of: SystemOf) -> Iterator[tuple[System, Any]]:
    """A system of more clusters than may be resident, whose coordinator is a Ray actor."""
    system = system_of()
    assert len(system.newest().clusters) > 2 * MOST
    owners = OwnersConfig(max_resident_owners=MOST, idle_s=4.0)
    yield system, coordinator_of(StoreRef(system.store.uri, str(system.keys)), system.manifest, owners)
    end_actors(system.manifest.store_id)


class Watch:
    """Notes the processes of owners."""

    def __init__(self) -> None:
        self._samples: list[tuple[float, set[int]]] = []

    def until(self, ended: threading.Event) -> None:
        """Sample until the event is set."""
        while not ended.is_set():
            self._samples.append((time.monotonic(), set(named("ray::OwnerActor"))))
            ended.wait(0.25)

    def most(self) -> int:
        """Most processes that existed together for a second: an ended process may take a moment to disappear."""
        most, later = 0, 0
        for moment, pids in self._samples:
            while later < len(self._samples) and self._samples[later][0] < moment + 1.0:
                later += 1
            if later < len(self._samples):
                most = max(most, len(pids & self._samples[later][1]))
        return most


def test_a_few_processes_erase_rows_of_many_clusters_and_tune_them_all(few: tuple[System, Any]) -> None:
    system, coordinator = few
    # One row after the other while tunings run; then one of many clusters at once.
    numbers, at_once = range(3), [f"s{number}" for number in range(40, 50)]
    watch = Watch()
    with meanwhile(watch.until):
        each = [ray.get(coordinator.delete.remote(DeletionRequest((f"s{number}",)))) for number in numbers]
        completed(coordinator, each[0].id)
        last = ray.get(coordinator.delete.remote(DeletionRequest(tuple(at_once))))
        completed(coordinator, last.id)
        for deletion in each:
            completed(coordinator, deletion.id)
    assert 1 <= watch.most() <= MOST
    erased = [*(f"s{number}" for number in numbers), *at_once]
    assert system.newest().root == system.fresh_root(without(*erased))
    named = {name for name in system.newest().objects() if name.startswith("rows/")}
    assert set(system.store.names("rows/")) == named
    assert len(ray.get(coordinator.owner_locations.remote())) <= MOST


def test_an_owner_is_started_again_after_it_was_idle(few: tuple[System, Any]) -> None:
    system, coordinator = few
    first = ray.get(coordinator.delete.remote(DeletionRequest(("s3",))))
    completed(coordinator, first.id)
    assert any(map(has_torch, named("ray::OwnerActor")))
    # An idle owner that has tuned is ended; owners of the largest clusters are started ahead.
    until(lambda: True if not any(map(has_torch, named("ray::OwnerActor"))) else None, LONGEST_S)
    sizes = sorted(system.newest().clusters, key=lambda entry: (-entry.rows, entry.key))
    ready = {entry.key for entry in sizes[:MOST]}
    until(lambda: set(ray.get(coordinator.owner_locations.remote())) == ready or None, LONGEST_S)
    second = ray.get(coordinator.delete.remote(DeletionRequest(("s4",))))
    completed(coordinator, second.id)
    assert system.newest().root == system.fresh_root(without("s3", "s4"))


def has_torch(pid: int) -> bool:
    try:
        return "libtorch" in Path(f"/proc/{pid}/maps").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def without(*names: str) -> list[Sample]:
    return [row for row in samples(0, 90) if row.sample_id not in names]


def completed(coordinator: Any, deletion_id: str) -> None:
    until(lambda: True if ray.get(coordinator.deletion.remote(deletion_id)).status == "completed" else None, LONGEST_S)
