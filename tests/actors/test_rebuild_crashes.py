"""A rebuild whose process ends at any fail point goes on where it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from rebuilding import Rebuild, fresh_root
from small_system import System, finish, samples

from actors.coordinator import Coordinator
from actors.fail_points import FailPoint, listener
from lmeraser.deletion import DeletionRequest
from lmeraser.state.layout import SWITCHING

ROWS = [row for row in samples(0, 60) if row.sample_id not in ("s3", "s8", "s11", "s20")]
SystemOf = Callable[..., System]


class Crash(BaseException):
    """Raised at a fail point in place of a process that ends there."""


@contextmanager
def crash_at(point: FailPoint) -> Iterator[None]:
    def crash(passed: FailPoint) -> None:
        if passed == point:
            raise Crash

    token = listener.set(crash)
    try:
        yield
    finally:
        listener.reset(token)


def opened(coordinator: Coordinator) -> bool:
    status = coordinator.rebuilds.status()
    return status is None or status.draft is not None


def story(system: System, rebuild: Rebuild) -> Coordinator:
    """A rebuild with deletions; whoever is interrupted in it begins it again."""
    coordinator = system.coordinator()
    if not rebuild.generation:
        rebuild.begin(coordinator)
    coordinator.delete(DeletionRequest(("s3", "s11"), idempotency_key="first"))
    if system.manifest.config != rebuild.config:
        while not opened(coordinator):
            coordinator.step()
        rebuild.fill(coordinator)
        coordinator.delete(DeletionRequest(("s8", "s20"), idempotency_key="second"))
        coordinator = rebuild.finish(coordinator)
    finish(coordinator)
    return coordinator


@pytest.mark.slow
@pytest.mark.parametrize("point", [point for point in FailPoint if point not in ("archived", "checkpoint written")])
def test_a_rebuild_goes_on_after_a_crash(point: FailPoint, system_of: SystemOf, tmp_path: Path) -> None:
    system = system_of("minute", 60)
    before = system.manifest.config
    partition = replace(before.partition, max_cluster_rows=12)
    rebuild = Rebuild(system, replace(before, partition=partition))
    with pytest.raises(Crash), crash_at(point):
        story(system, rebuild)
    coordinator = story(system, rebuild)
    assert {each.status for each in coordinator.recent_deletions()} == {"completed"}
    assert system.newest().root == fresh_root(system, rebuild.config, ROWS, tmp_path / "fresh")
    assert not system.store.exists(SWITCHING)
