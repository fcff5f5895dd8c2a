"""Owners in separate processes, as with Ray: they outlive their coordinator until its successor ends them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from actors.jobs import PromptJob, RowsJob, TuningJob, WrittenFeatures, WrittenPrompt, WrittenRows
from actors.owner import Owner
from actors.owners import Owners, TuningResult, is_transient, written_rows
from lmeraser.errors import LMEraserError, OwnerFailedError, TuningCancelledError
from lmeraser.state.manifest import Manifest
from lmeraser.store import Store
from simulator.rows import HASH_KEY, Ground
from simulator.scheduler import Process, Scheduler, Task
from simulator.store import MemoryStore

Argument = TypeVar("Argument")


@dataclass
class OwnerActor:
    """One owner with its process."""

    owner: Owner
    process: Process


@dataclass
class Cluster:
    """A Ray cluster: the owners that run on it, regardless of which coordinator started them."""

    name: str
    owners: dict[str, OwnerActor] = field(default_factory=dict)
    started: int = 0


class SimulatedOwners:
    """What ``OwnerPool`` does, without Ray."""

    def __init__(self, scheduler: Scheduler, store: MemoryStore, ground: Ground, cluster: Cluster, slots: int) -> None:
        self._scheduler = scheduler
        self._store = store
        self._ground = ground
        self._cluster = cluster
        self._slots = slots
        self._tunings: dict[Task, TuningJob] = {}

    @property
    def slots(self) -> int:
        return self._slots

    def prepare(self, rows: Mapping[str, int]) -> None:  # noqa: ARG002
        self._end(list(self._cluster.owners))

    def start_ahead(self) -> None:
        pass

    def write_rows(self, jobs: Iterable[RowsJob]) -> dict[str, WrittenRows]:
        return written_rows(jobs, self._write_wave)

    def _write_wave(self, pending: Mapping[str, RowsJob]) -> dict[str, WrittenRows | Exception]:
        calls = {key: self._call(key, "rows", Owner.write_rows, job) for key, job in pending.items()}
        self._scheduler.wait(lambda: all(call.is_over() for call in calls.values()))
        outcomes = {key: _outcome(call) for key, call in calls.items()}
        self._end([key for key, outcome in outcomes.items() if isinstance(outcome, OwnerFailedError)])
        return outcomes

    def start_tuning(self, job: TuningJob) -> None:
        method: Callable[[Owner, Any], Any] = Owner.tune if isinstance(job, PromptJob) else Owner.embed
        self._tunings[self._call(job.key, "tune", method, job)] = job

    def finished(self) -> list[TuningResult]:
        ready = [task for task in self._tunings if task.is_over()]
        return [_result(task, self._tunings.pop(task)) for task in ready]

    def stop_tuning(self, unwanted: Callable[[TuningJob], bool]) -> list[TuningJob]:
        stopped = [job for job in self._tunings.values() if unwanted(job)]
        jobs = [job for job in stopped if job.key in self._cluster.owners]
        calls = [self._call(job.key, "cancel", Owner.cancel, job.targets[0]) for job in jobs]
        deadline_s = self._scheduler.now_s + 2.0
        for job, call in zip(jobs, calls, strict=True):
            self._scheduler.wait(call.is_over, deadline_s)
            if not call.ended:
                self._end([job.key])
        return stopped

    def retire(self, keys: Collection[str]) -> None:
        self._end(keys)

    def of_draft(self, store: Store, manifest: Manifest) -> Owners:
        raise AssertionError(f"no history rebuilds its store: {store.uri}, {manifest.generation}")

    def _call(self, key: str, verb: str, method: Callable[[Owner, Argument], Any], argument: Argument) -> Task:
        actor = self._cluster.owners.get(key)
        if actor is None or not actor.process.alive:
            self._cluster.started += 1
            process = Process(f"{self._cluster.name}.owner{self._cluster.started}")
            pipeline: Any = self._ground.pipeline
            owner = Owner(self._store, self._ground.manifest, HASH_KEY, key, lambda: pipeline)
            actor = self._cluster.owners[key] = OwnerActor(owner, process)
        owner = actor.owner
        self._cluster.started += 1
        name = f"{actor.process.name}.{verb}{self._cluster.started}"
        return self._scheduler.spawn(actor.process, name, lambda: method(owner, argument))

    def _end(self, keys: Collection[str]) -> None:
        for key in list(keys):
            actor = self._cluster.owners.pop(key, None)
            if actor is not None:
                self._scheduler.kill(actor.process)


def _outcome(call: Task) -> Any:
    """What a call gave, or the error that it raised."""
    if not call.ended:
        return OwnerFailedError("the owner died")
    if call.error is not None and not isinstance(call.error, LMEraserError):
        raise call.error
    return call.error if call.error is not None else call.result


def _result(task: Task, job: TuningJob) -> TuningResult:
    outcome = _outcome(task)
    if isinstance(outcome, WrittenPrompt | WrittenFeatures):
        return TuningResult(job, outcome)
    if isinstance(outcome, TuningCancelledError):
        return TuningResult(job, None)
    return TuningResult(job, None, str(outcome), is_transient(outcome))
