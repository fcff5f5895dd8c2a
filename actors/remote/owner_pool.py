"""Owners as Ray actors, as the coordinator sees them: at most so many have a process at a time."""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from actors.owner import RowsJob, TuningJob, WrittenObject
from actors.owners import TuningResult, is_transient, written_rows
from actors.remote.nodes import Nodes, Placement
from actors.remote.owner_processes import OwnerProcesses, StoreRef
from actors.remote.process import ProcessLocation
from actors.remote.residency import Residency
from lmeraser.errors import LMEraserError, OwnerFailedError, TuningCancelledError

_ANSWERS_WITHIN_S = 2.0
_WARN_S = 30.0
_PAUSE_S = 1.0
_log = logging.getLogger(__name__)


class _OwnerGoneError(OwnerFailedError):
    """Raised when an owner's process ended before it answered."""


class OwnerPool:
    """Owners as named, detached actors, one a cluster. One thread calls it; ``places`` and ``drain`` any."""

    def __init__(self, site: StoreRef, store_id: str, placement: Placement) -> None:
        self._processes = OwnerProcesses(site, store_id, placement)
        self._nodes = Nodes(placement)
        self._residency = Residency(self._nodes.most_residents, self._nodes.most_tuned, placement.idle_s)
        self._tunes_on_gpu = placement.num_gpus > 0
        self._preferred: dict[str, str] = {}
        self._tunings: dict[ray.ObjectRef[WrittenObject], TuningJob] = {}
        # A tuning that was cancelled may go on until its next step, but writes nothing.
        self._cancelled: set[str] = set()
        self._starting: ray.ObjectRef[ProcessLocation] | None = None
        self._draining = False

    def prepare(self, rows: Mapping[str, int]) -> None:
        self._residency.expect(rows)
        # What they do, they were told by a coordinator that is no more.
        self._end(self._processes.named())

    def start_ahead(self) -> None:
        at_work = self._at_work()
        if self._draining:
            self._end([key for key in self._residency.resident if key not in at_work][:1])
            return
        self._end(self._residency.idle(at_work))
        # One after the other: many at once starve what else starts on a small machine, such as Serve's proxy.
        if self._starting is not None and not ray.wait([self._starting], timeout=0)[0]:
            return
        self._starting = None
        key = self._residency.next_ahead()
        if key is not None:
            self._residency.called(key)
            self._starting = self._processes.start(key, self._preference(key))

    @property
    def slots(self) -> int:
        return 0 if self._draining else self._nodes.tunings()

    def drain(self) -> None:
        """Start no tunings any more, and end the owners one after the other while there is nothing else to do."""
        self._draining = True

    def places(self) -> dict[str, ProcessLocation]:
        """Where the resident owners run."""
        found = {key: self._processes.place(key) for key in self._residency.resident}
        return {key: place for key, place in found.items() if place is not None}

    def write_rows(self, jobs: Iterable[RowsJob]) -> dict[str, WrittenObject]:
        done = written_rows(jobs, self._write_wave)
        self._residency.expect({key: written.rows for key, written in done.items()})
        return done

    def start_tuning(self, job: TuningJob) -> None:
        self._make_room([job.key], to_tune=True)
        self._tunings[self._call(job.key, "tune", job, to_tune=True)] = job

    def finished(self) -> list[TuningResult]:
        if not self._tunings:
            return []
        ready, _ = ray.wait(list(self._tunings), num_returns=len(self._tunings), timeout=0)
        return [self._result(call, self._tunings.pop(call)) for call in ready]

    def stop_tuning(self, keys: Collection[str]) -> None:
        # One whose owner was ended is over, and a call would start the owner anew.
        resident = self._residency.resident
        jobs = [job for job in self._tunings.values() if job.key in keys and job.key in resident]
        calls = {self._call(job.key, "cancel", job.target): job for job in jobs}
        self._cancelled.update(job.target for job in jobs)
        if calls:
            _, silent = ray.wait(list(calls), num_returns=len(calls), timeout=_ANSWERS_WITHIN_S)
            # One that Ray has restarted answers, but the process before may live on where its node is gone.
            stuck = {job.key for call, job in calls.items() if call in silent or _died(call)}
            stuck |= {job.key for call, job in self._tunings.items() if job in jobs and _died(call)}
            if stuck:
                _log.warning("the owners of clusters %s do not answer; they are ended", ", ".join(sorted(stuck)))
                self._end(stuck)
        self._processes.settle()

    def retire(self, keys: Collection[str]) -> None:
        self._end(keys)
        self._residency.forget(keys)

    def _write_wave(self, pending: Mapping[str, RowsJob]) -> dict[str, WrittenObject | Exception]:
        """Have as many owners write their rows as may be resident at a time."""
        wave = self._residency.wave(pending, self._at_work())
        self._make_room(wave)
        calls = {key: self._call(key, "write_rows", pending[key]) for key in wave}
        _wait_for_all(calls)
        outcomes = {key: _outcome(call) for key, call in calls.items()}
        failed = [key for key, outcome in outcomes.items() if isinstance(outcome, OwnerFailedError)]
        if failed:
            self._end(failed)
            time.sleep(_PAUSE_S)
        return outcomes

    def _at_work(self) -> set[str]:
        return {job.key for job in self._tunings.values() if job.target not in self._cancelled}

    def _make_room(self, coming: Collection[str], *, to_tune: bool = False) -> None:
        """End as many owners as it takes to call these; a tuning goes only where there is no other way."""
        leaving = self._residency.leaving(coming, self._at_work(), to_tune=to_tune)
        self._cancelled.update(job.target for job in self._tunings.values() if job.key in leaving)
        if to_tune and self._tunes_on_gpu:
            # What has no part of a GPU can be given none while it lives.
            leaving += [key for key in coming if key in self._residency.resident - self._residency.tuned]
        self._end(leaving)

    def _call(self, key: str, method: str, argument: Any, *, to_tune: bool = False) -> ray.ObjectRef[Any]:
        preference = None if key in self._residency.resident else self._preference(key, to_tune=to_tune)
        self._residency.called(key, to_tune=to_tune)
        return getattr(self._processes.to_call(key, preference, to_tune=to_tune), method).remote(argument)

    def _preference(self, key: str, *, to_tune: bool = False) -> str | None:
        """Of the nodes, the one that the resident owners' rows burden least."""
        burden: defaultdict[str, list[int]] = defaultdict(list)
        tuned: Counter[str] = Counter()
        for resident in self._residency.resident:
            place = self._processes.place(resident)
            node_id = place.node_id if place is not None else self._preferred.get(resident)
            if node_id is not None:
                burden[node_id].append(self._residency.rows.get(resident, 0))
                tuned[node_id] += resident in self._residency.tuned
        node_id = self._nodes.lightest(burden, tuned if to_tune else None)
        if node_id is not None:
            self._preferred[key] = node_id
        return node_id

    def _end(self, keys: Collection[str]) -> None:
        """End owners; none of them writes anything after the return."""
        if keys:
            self._processes.kill(keys)
            self._processes.settle()
            self._residency.ended(keys)

    def _result(self, call: ray.ObjectRef[WrittenObject], job: TuningJob) -> TuningResult:
        cancelled = job.target in self._cancelled
        self._cancelled.discard(job.target)
        if job.key in self._residency.resident:
            # It is idle from now on.
            self._residency.called(job.key)
        outcome = _outcome(call)
        if isinstance(outcome, WrittenObject):
            return TuningResult(job, outcome)
        if isinstance(outcome, OwnerFailedError) and not (cancelled and isinstance(outcome, _OwnerGoneError)):
            # What it holds is not to be trusted: an error of CUDA breaks its context for good. Where its node is gone,
            # its process may live on for a while, and must be gone before the next erasure.
            self._processes.kill([job.key])
            self._residency.ended([job.key])
        if cancelled or isinstance(outcome, TuningCancelledError):
            return TuningResult(job, None)
        return TuningResult(job, None, str(outcome), is_transient(outcome))


def _wait_for_all(calls: Mapping[str, ray.ObjectRef[Any]]) -> None:
    """Return when all are answered, before one's error is raised: what is written after the sweep would stay."""
    waiting = list(calls.values())
    while waiting:
        _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=_WARN_S)
        if waiting:
            silent = sorted(key for key, call in calls.items() if call in waiting)
            _log.warning("no answer yet from the owners of clusters %s: is there room for them?", ", ".join(silent))


def _died(call: ray.ObjectRef[Any]) -> bool:
    """Whether an owner that was called is gone, or failed so that it is to go."""
    ready, _ = ray.wait([call], timeout=0)
    return bool(ready) and isinstance(_outcome(call), OwnerFailedError)


def _outcome(call: ray.ObjectRef[Any]) -> Any:
    """What a call that is answered gave, or the error that it raised.

    Whatever else Ray raises, such as for a process that died or was ended for its memory, means that it is gone.
    """
    try:
        return ray.get(call)
    except RayTaskError as error:
        cause = error.cause
        return cause if isinstance(cause, LMEraserError) else OwnerFailedError(_last_line(error))
    except RayError as error:
        return _OwnerGoneError(_last_line(error))


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]
