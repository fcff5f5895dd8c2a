"""What the coordinator reports of its steps, its store and its log."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import pytest
from ray.util.metrics import Counter, Gauge, Histogram
from small_system import System

from actors.coordinator import Coordinator
from actors.fail_points import FailPoint
from actors.passages import Passage, passage
from actors.remote.metrics import CoordinatorMetrics, LogMetrics, StepMetrics, kind_of
from actors.remote.store_metrics import StoreMetrics
from lmeraser.deletion import DeletionRequest
from lmeraser.state.keys import load_hash_key, load_signing_key
from lmeraser.store.observed import StoreCall

SystemOf = Callable[..., System]
Values = dict[str, list[tuple[float, Mapping[str, str]]]]


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> Values:
    """What was reported, by metric, in order."""
    values: Values = defaultdict(list)

    def note(metric: Any, value: float, tags: Mapping[str, str] | None = None) -> None:
        values[metric.info["name"]].append((value, tags or {}))

    for kind, method in ((Counter, "inc"), (Gauge, "set"), (Histogram, "observe")):
        monkeypatch.setattr(kind, method, note)
    return values


def finish(coordinator: Coordinator, steps: StepMetrics) -> None:
    while not coordinator.idle():
        with passage("coordinator.step", (steps.observe,)) as passed:
            passed.idle = not coordinator.step()


def test_steps_are_reported_by_kind_and_by_fail_point(
    system_of: SystemOf, reported: Values, monkeypatch: pytest.MonkeyPatch
) -> None:
    coordinator, steps = system_of("minute", 24).coordinator(), StepMetrics()
    coordinator.delete(DeletionRequest(("s3",)))
    finish(coordinator, steps)
    kinds = {tags["kind"] for _, tags in reported["lmeraser_step_seconds"]}
    assert "erase" in kinds and kinds <= {"erase", "take a prompt", "take features", "complete", "other"}
    erase_s = next(value for value, tags in reported["lmeraser_step_seconds"] if tags["kind"] == "erase")
    parts: dict[str, float] = defaultdict(float)
    for value, tags in reported["lmeraser_fail_point_seconds"]:
        parts[tags["fail_point"]] += value
    assert {"commit appended", "swept", "erased recorded"} <= parts.keys() <= {point.value for point in FailPoint}
    assert 0 < parts["swept"] < erase_s
    before = len(reported["lmeraser_step_seconds"])
    with passage("coordinator.step", (steps.observe,)) as passed:
        passed.idle = not coordinator.step()
    assert len(reported["lmeraser_step_seconds"]) == before, "a step without work was reported"
    monkeypatch.setattr("actors.checkpoints.MAX_COMMITS", 1)
    coordinator.delete(DeletionRequest(("s4",)))
    finish(coordinator, steps)
    assert "checkpoint" in {tags["kind"] for _, tags in reported["lmeraser_step_seconds"]}


@pytest.mark.parametrize(
    ("points", "kind"),
    [
        ([], "other"),
        ([FailPoint.ARCHIVED, FailPoint.CHECKPOINT_WRITTEN], "checkpoint"),
        ([FailPoint.HEADS_WRITTEN, FailPoint.COMMIT_APPENDED], "add rows"),
        ([FailPoint.COMMIT_APPENDED, FailPoint.LEASE_WAITED, FailPoint.COMPLETED_RECORDED], "erase"),
        ([FailPoint.COMMIT_APPENDED, FailPoint.PROMPT_COMMITTED], "take a prompt"),
        ([FailPoint.RECEIPT_COMPLETED, FailPoint.COMPLETED_RECORDED], "complete"),
    ],
)
def test_the_kind_of_a_step_follows_from_its_fail_points(points: list[FailPoint], kind: str) -> None:
    assert kind_of(Passage("coordinator.step", points=[(point, 0.0) for point in points])) == kind


def test_the_length_of_the_log_and_the_bytes_of_its_records_are_those_in_the_store(
    system_of: SystemOf, reported: Values, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.checkpoints.MAX_COMMITS", 2)
    system = system_of("minute", 24)
    for number in range(4):
        system.delete(f"s{number}")
    keys = (load_hash_key(system.keys), load_signing_key(system.keys))
    owners: Any = system.coordinator()._owners
    first = len(system.store.names("log/"))
    coordinator = Coordinator(system.store, system.manifest, *keys, owners, 0.0, on_append=LogMetrics().observe)
    coordinator.delete(DeletionRequest(("s9",)))
    finish(coordinator, StepMetrics())
    CoordinatorMetrics(()).report((), coordinator.status(), 0)
    records = {name: system.store.get(name) for name in system.store.names("log/")}
    assert reported["lmeraser_log_records"][-1][0] == len(records)
    newest = int(system.store.names("checkpoints/")[-1].removeprefix("checkpoints/").removesuffix(".json"))
    assert reported["lmeraser_log_records_since_checkpoint"][-1][0] == len(records) - newest
    appended = [(len(data), json.loads(data)["kind"]) for data in list(records.values())[first:]]
    assert [(value, tags["kind"]) for value, tags in reported["lmeraser_log_record_bytes"]] == appended
    assert "commit" in {kind for _, kind in appended}


def test_calls_of_the_store_are_reported_by_operation_and_outcome(reported: Values) -> None:
    metrics = StoreMetrics("replica")
    metrics.observe(StoreCall("get", "log/0000000001.json", 0.25))
    metrics.observe(StoreCall("put", "rows/c/1", 0.5, failed=True))
    assert reported["lmeraser_store_seconds"] == [
        (0.25, {"process": "replica", "operation": "get", "outcome": "ok"}),
        (0.5, {"process": "replica", "operation": "put", "outcome": "failed"}),
    ]


def test_the_time_to_erased_of_a_deletion_is_reported_once(system_of: SystemOf, reported: Values) -> None:
    coordinator = system_of("minute", 24).coordinator()
    coordinator.delete(DeletionRequest(("s3",)))
    metrics = CoordinatorMetrics(coordinator.recent_deletions())
    for _ in range(3):
        metrics.report(coordinator.recent_deletions(), coordinator.status(), 0)
        finish(coordinator, StepMetrics())
    (deletion,) = coordinator.recent_deletions()
    assert deletion.erased_at is not None
    accepted, erased = (datetime.fromisoformat(at) for at in (deletion.accepted_at, deletion.erased_at))
    assert reported["lmeraser_time_to_erased_seconds"] == [((erased - accepted).total_seconds(), {})]
    CoordinatorMetrics(coordinator.recent_deletions()).report(coordinator.recent_deletions(), coordinator.status(), 0)
    assert len(reported["lmeraser_time_to_erased_seconds"]) == 1


def test_owners_are_counted_once(system_of: SystemOf, reported: Values) -> None:
    status = system_of("minute", 24).coordinator().status()
    metrics = CoordinatorMetrics(())
    for started in (0, 3, 3, 5):
        metrics.report((), status, started)
    assert [value for value, _ in reported["lmeraser_owners_started"]] == [3, 2]
