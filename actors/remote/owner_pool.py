"""The coordinator's owners as Ray actors, only a limited number of which have a process at the same time."""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from actors.jobs import PromptJob, RowsJob, TuningJob, WrittenFeatures, WrittenPrompt, WrittenRows
from actors.owners import TuningResult, is_transient, written_rows
from actors.remote.nodes import Nodes
from actors.remote.owner_processes import REPLY_TIMEOUT_S, OwnerProcesses
from actors.remote.placement import Placement, StoreRef, numerics_selector
from actors.remote.process import ProcessLocation
from actors.remote.residency import Residency
from lmeraser.errors import LMEraserError, OwnerFailedError, TuningCancelledError
from lmeraser.state.manifest import Manifest
from lmeraser.store import Store

_WARN_S = 30.0
_PAUSE_S = 1.0
_log = logging.getLogger(__name__)


class _OwnerEndedError(OwnerFailedError):
    """Raised when an owner's process ended before it answered."""


class OwnerPool:
    """Owners as named, detached actors, one per cluster.

    Only one thread may call it, except for ``locations`` and ``drain``, which any thread may call.
    """

    def __init__(self, store_ref: StoreRef, store_id: str, placement: Placement) -> None:
        self._store_ref = store_ref
        self._placement = placement
        self._processes = OwnerProcesses(store_ref, store_id, placement)
        self._nodes = Nodes(placement)
        self._residency = Residency(
            self._nodes.max_residents, self._nodes.max_tuned, self._nodes.slots, placement.idle_s
        )
        self._tunes_on_gpu = placement.num_gpus > 0
        self._preferred: dict[str, str] = {}
        self._tunings: dict[ray.ObjectRef[WrittenPrompt | WrittenFeatures], TuningJob] = {}
        # First targets of cancelled tunings: one may go on until its next step, but writes nothing.
        self._cancelled: set[str] = set()
        self._starting: ray.ObjectRef[ProcessLocation] | None = None
        self._draining = False

    def prepare(self, rows: Mapping[str, int]) -> None:
        self._residency.update_rows(rows)
        # Their work was assigned by the previous coordinator: stop it.
        self._end(self._processes.named())

    def start_ahead(self) -> None:
        at_work = self._at_work()
        if self._draining:
            self._end([key for key in self._residency.resident if key not in at_work][:1])
            return
        self._end(self._residency.idle(at_work))
        # One at a time: many together would starve what else starts on a small machine, such as Serve's proxy.
        if self._starting is not None and not ray.wait([self._starting], timeout=0)[0]:
            return
        self._starting = None
        key = self._residency.next_ahead()
        if key is not None:
            pinned = self._pinned()
            self._residency.called(key, to_tune=pinned)
            self._starting = self._processes.start(key, self._preference(key, to_tune=pinned), to_tune=pinned)

    @property
    def slots(self) -> int:
        return 0 if self._draining else self._nodes.tunings()

    @property
    def started(self) -> int:
        """How many owners were started."""
        return self._processes.started

    def drain(self) -> None:
        """Start no more tunings, and end the owners one by one whenever there is nothing else to do."""
        self._draining = True

    def locations(self) -> dict[str, ProcessLocation]:
        """Where the resident owners run, by cluster key."""
        locations = {key: self._processes.location(key) for key in self._residency.resident}
        return {key: location for key, location in locations.items() if location is not None}

    def write_rows(self, jobs: Iterable[RowsJob]) -> dict[str, WrittenRows]:
        written = written_rows(jobs, self._write_wave)
        self._residency.update_rows({key: rows.entry.rows for key, rows in written.items()})
        return written

    def start_tuning(self, job: TuningJob) -> None:
        self._make_room([job.key], to_tune=True)
        method = "tune" if isinstance(job, PromptJob) else "embed"
        self._tunings[self._call(job.key, method, job, to_tune=True)] = job

    def finished(self) -> list[TuningResult]:
        if not self._tunings:
            return []
        ready, _ = ray.wait(list(self._tunings), num_returns=len(self._tunings), timeout=0)
        return [self._result(call, self._tunings.pop(call)) for call in ready]

    def stop_tuning(self, unwanted: Callable[[TuningJob], bool]) -> list[TuningJob]:
        stopped = [job for job in self._tunings.values() if unwanted(job)]
        # The tuning of an owner without a process is over, and a call would start that owner again.
        jobs = [job for job in stopped if job.key in self._residency.resident]
        unresponsive = self._cancel(jobs) | self._lost(jobs)
        if unresponsive:
            _log.warning("ending the unresponsive owners of clusters %s", ", ".join(sorted(unresponsive)))
            self._end(unresponsive)
        self._processes.settle()
        return stopped

    def retire(self, keys: Collection[str]) -> None:
        self._end(keys)
        self._residency.drop(keys)

    def of_draft(self, store: Store, manifest: Manifest) -> OwnerPool:
        ref = StoreRef(store.uri, self._store_ref.keys_folder, live_uri=self._store_ref.store_uri)
        placement = replace(self._placement, numerics=numerics_selector(manifest.fingerprint))
        return OwnerPool(ref, manifest.store_id, placement)

    def _cancel(self, jobs: Sequence[TuningJob]) -> set[str]:
        """Cancel tunings; keys of the owners that have not confirmed it in time."""
        calls = {self._call(job.key, "cancel", job.targets[0]): job.key for job in jobs}
        self._cancelled.update(job.targets[0] for job in jobs)
        if not calls:
            return set()
        _, pending = ray.wait(list(calls), num_returns=len(calls), timeout=REPLY_TIMEOUT_S)
        return {key for call, key in calls.items() if call in pending or _has_failed(call)}

    def _lost(self, jobs: Sequence[TuningJob]) -> set[str]:
        """Keys of the owners whose process has ended while it tuned.

        Ray has restarted such an owner, and so it confirms the cancellation. If its node was lost, the previous process
        may still be alive.
        """
        return {job.key for call, job in self._tunings.items() if job in jobs and _has_failed(call)}

    def _write_wave(self, pending: Mapping[str, RowsJob]) -> dict[str, WrittenRows | Exception]:
        """Have as many owners write their rows as may be resident together."""
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
        return {job.key for job in self._tunings.values() if job.targets[0] not in self._cancelled}

    def _make_room(self, keys: Collection[str], *, to_tune: bool = False) -> None:
        """End as many owners as needed to call these; one that tunes is ended only if nothing else makes room."""
        ending = self._residency.to_end(keys, self._at_work(), to_tune=to_tune)
        self._cancelled.update(job.targets[0] for job in self._tunings.values() if job.key in ending)
        if to_tune and self._tunes_on_gpu:
            # A process without a share of a GPU cannot be given one, so it is started again (decision 21).
            ending += [key for key in keys if key in self._residency.resident - self._residency.tuned]
        self._end(ending)

    def _call(self, key: str, method: str, argument: Any, *, to_tune: bool = False) -> ray.ObjectRef[Any]:
        to_tune = to_tune or self._pinned()
        preference = None if key in self._residency.resident else self._preference(key, to_tune=to_tune)
        self._residency.called(key, to_tune=to_tune)
        return getattr(self._processes.to_call(key, preference, to_tune=to_tune), method).remote(argument)

    def _pinned(self) -> bool:
        """Whether every owner has its share of a GPU from its start on, and keeps it: where all of them fit."""
        return self._tunes_on_gpu and self._residency.all_stay()

    def _preference(self, key: str, *, to_tune: bool = False) -> str | None:
        """The node whose resident owners have the fewest rows for its size."""
        rows: defaultdict[str, list[int]] = defaultdict(list)
        tuned: Counter[str] = Counter()
        for resident in self._residency.resident:
            location = self._processes.location(resident)
            node_id = location.node_id if location is not None else self._preferred.get(resident)
            if node_id is not None:
                rows[node_id].append(self._residency.rows.get(resident, 0))
                tuned[node_id] += resident in self._residency.tuned
        node_id = self._nodes.lightest(rows, tuned if to_tune else None)
        if node_id is not None:
            self._preferred[key] = node_id
        return node_id

    def _end(self, keys: Collection[str]) -> None:
        """End owners; none of them writes anything after the return."""
        if keys:
            self._processes.kill(keys)
            self._processes.settle()
            self._residency.ended(keys)

    def _result(self, call: ray.ObjectRef[WrittenPrompt | WrittenFeatures], job: TuningJob) -> TuningResult:
        cancelled = job.targets[0] in self._cancelled
        self._cancelled.discard(job.targets[0])
        if job.key in self._residency.resident:
            # It is idle from now on.
            self._residency.called(job.key)
        outcome = _outcome(call)
        if isinstance(outcome, WrittenPrompt | WrittenFeatures):
            return TuningResult(job, outcome)
        if isinstance(outcome, OwnerFailedError) and not (cancelled and isinstance(outcome, _OwnerEndedError)):
            # Its memory cannot be trusted: a CUDA error breaks the process's context permanently. If its node was lost,
            # the process may live on for a while, and must have ended before the next erasure.
            self._processes.kill([job.key])
            self._residency.ended([job.key])
        if cancelled or isinstance(outcome, TuningCancelledError):
            return TuningResult(job, None)
        return TuningResult(job, None, str(outcome), is_transient(outcome))


def _wait_for_all(calls: Mapping[str, ray.ObjectRef[Any]]) -> None:
    """Return once all have answered, before any error is raised: what is written after the sweep would remain."""
    waiting = list(calls.values())
    while waiting:
        _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=_WARN_S)
        if waiting:
            silent = sorted(key for key, call in calls.items() if call in waiting)
            _log.warning("no answer yet from the owners of clusters %s: do they fit on a node?", ", ".join(silent))


def _has_failed(call: ray.ObjectRef[Any]) -> bool:
    """Whether the called owner's process has ended, or has failed so that it must be ended."""
    ready, _ = ray.wait([call], timeout=0)
    return bool(ready) and isinstance(_outcome(call), OwnerFailedError)


def _outcome(call: ray.ObjectRef[Any]) -> Any:
    """What an answered call returned, or the error that it raised.

    Any other Ray error, such as for a process that died or was ended for its memory, means that the process has ended.
    """
    try:
        return ray.get(call)
    except RayTaskError as error:
        cause = error.cause
        return cause if isinstance(cause, LMEraserError) else OwnerFailedError(_last_line(error))
    except RayError as error:
        return _OwnerEndedError(_last_line(error))


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]
