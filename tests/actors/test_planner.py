"""Which cluster is tuned next, and how a failed tuning is handled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from small_system import System, finish, samples
from stored_rows import bytes_of

from actors.coordinator import Coordinator
from actors.jobs import PromptJob
from actors.log_replay import Attempts
from actors.owners import InProcessOwners, TuningResult
from actors.planner import ATTEMPTS, STORE_PAUSE_S, Planner
from lmeraser.config import TuningConfig
from lmeraser.deletion import DeletionRequest
from lmeraser.errors import RequestError
from lmeraser.proof.receipts import verify_receipt
from lmeraser.state.cluster_entry import ClusterEntry, Segment
from lmeraser.state.commit import Commit, StoredHeads
from lmeraser.state.keys import load_signing_key
from lmeraser.state.log import Position

SystemOf = Callable[..., System]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def entry(key: str, rows: int) -> ClusterEntry:
    segment = Segment(rows, 100 * rows, f"rows/{key}/a.parquet", f"bytes-{key}", f"segment-{key}")
    return ClusterEntry(key, (0,), "", rows, (segment,), f"rows-{key}", f"coreset-{key}", f"contents-{key}")


def commit(**rows: int) -> Commit:
    entries = tuple(map(entry, rows, rows.values()))
    return Commit(clusters=entries, heads=StoredHeads("heads/a", "00", "heads/b", "00"), fixed_leaves={})


def keys(entries: list[ClusterEntry]) -> list[str]:
    return [entry.key for entry in entries]


def job(key: str) -> PromptJob:
    return PromptJob(entry(key, 5), f"prompts/{key}", Position(1, 1))


def failed(planner: Planner, attempts: dict[str, Attempts], key: str) -> None:
    before = attempts.get(f"coreset-{key}", Attempts(0, ""))
    attempts[f"coreset-{key}"] = Attempts(before.count + 1, "no memory")
    planner.pause(job(key))


def test_the_earliest_deadline_comes_first_and_then_the_cheapest_cluster() -> None:
    planner = Planner(lambda rows: rows >= 2, TuningConfig(), attempts={})
    ready = planner.ready(commit(a=50, b=10, c=30, d=20, e=1), {"a": "2026-01-02", "c": "2026-01-01"})
    assert keys(ready) == ["c", "a", "b", "d"]


def test_the_cheapest_is_that_with_the_fewest_row_passes_to_go() -> None:
    planner = Planner(lambda _: True, TuningConfig(coreset_rows=10, epochs=2), attempts={})
    tuned = replace(entry("tuned", 60), prompt_object="prompts/tuned", prompt_leaf="leaf")
    # 2 · 2 · 10 + 30, and 60 rows that only have to be embedded.
    untuned = entry("untuned", 30)
    assert keys(planner.ready(replace(commit(), clusters=(untuned, tuned)), {})) == ["tuned", "untuned"]


def test_a_failed_tuning_pauses_twice_as_long_each_time_and_holds_up_no_other() -> None:
    clock, attempts = Clock(), dict[str, Attempts]()
    planner = Planner(lambda _: True, TuningConfig(), attempts, clock)
    now = commit(a=5, b=6)
    failed(planner, attempts, "a")
    assert keys(planner.ready(now, {})) == ["b"]
    assert keys(planner.awaiting(now)) == ["a", "b"]
    clock.now = 0.5
    assert keys(planner.ready(now, {})) == ["a", "b"]
    failed(planner, attempts, "a")
    clock.now = 1.4
    assert keys(planner.ready(now, {})) == ["b"]
    clock.now = 1.5
    assert keys(planner.ready(now, {})) == ["a", "b"]


def test_a_tuning_is_given_up_after_some_attempts_until_they_are_reset() -> None:
    attempts = dict[str, Attempts]()
    planner = Planner(lambda _: True, TuningConfig(), attempts, Clock())
    now = commit(a=5, b=6)
    for _ in range(ATTEMPTS):
        failed(planner, attempts, "a")
    assert keys(planner.awaiting(now)) == ["b"]
    assert planner.given_up(now) == {"a": "no memory"}
    attempts.clear()
    planner.hurry()
    assert planner.given_up(now) == {}
    assert keys(planner.ready(now, {})) == ["a", "b"]


def test_a_tuning_that_cannot_be_written_is_retried_without_limit() -> None:
    clock = Clock()
    planner = Planner(lambda _: True, TuningConfig(), {}, clock)
    now = commit(a=5, b=6)
    for _ in range(3 * ATTEMPTS):
        planner.pause(job("a"), is_transient=True)
        assert keys(planner.ready(now, {})) == ["b"]
        clock.now += STORE_PAUSE_S
        assert keys(planner.ready(now, {})) == ["a", "b"]
    assert planner.given_up(now) == {}


class FailingOwners(InProcessOwners):
    """Owners that fail to tune the given clusters."""

    failing: frozenset[str] = frozenset()

    def finished(self) -> list[TuningResult]:
        if self._queue and self._queue[0].key in self.failing:
            return [TuningResult(self._queue.pop(0), None, "the GPU has no memory left")]
        return super().finished()


@pytest.fixture
def failing(system_of: SystemOf, monkeypatch: pytest.MonkeyPatch) -> tuple[System, FailingOwners, Coordinator]:
    monkeypatch.setattr("actors.planner.MIN_BACKOFF_S", 0.0)
    system = system_of()
    arguments: Any = (system.store, system.manifest, system.hash_key, system.pipeline)
    owners = FailingOwners(*arguments)
    signing_key = load_signing_key(system.keys)
    return system, owners, Coordinator(system.store, system.manifest, system.hash_key, signing_key, owners, 0.0)


def test_a_deletion_whose_tuning_keeps_failing_keeps_its_erasure_and_can_be_retried(
    failing: tuple[System, FailingOwners, Coordinator],
) -> None:
    system, owners, coordinator = failing
    first, second = (entry for entry in sorted(system.newest().clusters, key=lambda entry: -entry.rows)[:2])
    ids = {
        entry.key: next(
            row.sample_id for row in samples(10, 90) if row.sample_id.encode() in bytes_of(system.store, entry)
        )
        for entry in (first, second)
    }
    bad = coordinator.delete(DeletionRequest((ids[first.key],)))
    coordinator.step()
    owners.failing = frozenset(coordinator.status().awaiting)
    good = coordinator.delete(DeletionRequest((ids[second.key],)))
    coordinator.step()
    finish(coordinator)
    assert coordinator.deletion(good.id).status == "completed"
    failed = coordinator.deletion(bad.id)
    assert (failed.status, failed.reason is not None and "no memory" in failed.reason) == ("failed", True)
    verify_receipt(coordinator.receipt(bad.id), load_signing_key(system.keys).public_key())
    assert system.newest().rows == 88
    with pytest.raises(RequestError, match="completed"):
        coordinator.retry(good.id)
    owners.failing = frozenset()
    coordinator.retry(bad.id)
    finish(coordinator)
    done = coordinator.deletion(bad.id)
    assert (done.status, done.reason) == ("completed", None)
    assert coordinator.receipt(bad.id)["completed"]["root"] == system.newest().root


def test_a_deadline_is_kept_in_utc_and_one_without_an_offset_is_refused(system_of: SystemOf) -> None:
    coordinator = system_of().coordinator()
    deletion = coordinator.delete(DeletionRequest(("s1",), deadline="2027-01-01T02:00:00+02:00"))
    assert coordinator.deletion(deletion.id).deadline == "2027-01-01T00:00:00.000+00:00"
    for wrong in ("2027-01-01T02:00:00", "soon"):
        with pytest.raises(RequestError, match=wrong):
            coordinator.delete(DeletionRequest(("s2",), deadline=wrong))
    assert len(coordinator.recent_deletions()) == 1
