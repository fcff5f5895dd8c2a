"""Owners as Ray actors, as the registrar sees them: at most so many have a process at a time."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError

from actors.nodes import Nodes, Placement
from actors.owner import RowsJob, TuningJob, Written
from actors.owner_process import OwnerProcesses, Site
from actors.owners import TuningResult, may_pass
from actors.process import Place
from actors.residency import Residency
from lmeraser.errors import LMEraserError, TuningCancelledError

_ANSWERS_WITHIN_S = 2.0
_WARN_S = 30.0
_log = logging.getLogger(__name__)


class RemoteOwners:
    """Owners as named, detached actors, one a cluster. One thread calls it; ``places`` and ``drain`` any."""

    def __init__(self, site: Site, store_id: str, placement: Placement) -> None:
        self._processes = OwnerProcesses(site, store_id, placement)
        self._nodes = Nodes(placement)
        self._residency = Residency(self._nodes.most_residents, placement.idle_s)
        self._preferred: dict[str, str] = {}
        self._tunings: dict[ray.ObjectRef[Written], TuningJob] = {}
        # A tuning that was cancelled may go on until its next step, but writes nothing.
        self._cancelled: set[str] = set()
        self._starting: ray.ObjectRef[Place] | None = None
        self._draining = False

    def prepare(self, rows: Mapping[str, int]) -> None:
        self._residency.expect(rows)
        # What they do, they were told by a registrar that is no more.
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

    def places(self) -> dict[str, Place]:
        """Where the resident owners run."""
        found = {key: self._processes.place(key) for key in self._residency.resident}
        return {key: place for key, place in found.items() if place is not None}

    def write_rows(self, jobs: Iterable[RowsJob]) -> dict[str, Written]:
        pending = {job.region.key: job for job in jobs}
        done: dict[str, Written] = {}
        while pending:
            wave = self._residency.wave(pending, self._at_work())
            self._make_room(wave)
            calls = {key: self._call(key, "write_rows", pending[key]) for key in wave}
            _wait_for_all(calls)
            for key, call in calls.items():
                try:
                    done[key] = ray.get(call)
                    del pending[key]
                except RayActorError:
                    # Row objects count only once a commit names them, so writing one twice does no harm.
                    _log.warning("the owner of cluster %s died while it wrote its rows; it is asked again", key)
                    self._end([key])
                    time.sleep(1)
        self._residency.expect({key: written.rows for key, written in done.items()})
        return done

    def start_tuning(self, job: TuningJob) -> None:
        self._make_room([job.key])
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

    def _at_work(self) -> set[str]:
        return {job.key for job in self._tunings.values() if job.target not in self._cancelled}

    def _make_room(self, coming: Collection[str]) -> None:
        """End as many owners as it takes to call these; a tuning goes only where there is no other way."""
        leaving = self._residency.leaving(coming, self._at_work())
        self._cancelled.update(job.target for job in self._tunings.values() if job.key in leaving)
        self._end(leaving)

    def _call(self, key: str, method: str, argument: Any, *, to_tune: bool = False) -> ray.ObjectRef[Any]:
        preference = None if key in self._residency.resident else self._preference(key)
        self._residency.called(key, to_tune=to_tune)
        return getattr(self._processes.to_call(key, preference), method).remote(argument)

    def _preference(self, key: str) -> str | None:
        """Of the nodes, the one that the resident owners' rows burden least."""
        burden: defaultdict[str, list[int]] = defaultdict(list)
        for resident in self._residency.resident:
            place = self._processes.place(resident)
            node_id = place.node_id if place is not None else self._preferred.get(resident)
            if node_id is not None:
                burden[node_id].append(self._residency.rows.get(resident, 0))
        node_id = self._nodes.lightest(burden)
        if node_id is not None:
            self._preferred[key] = node_id
        return node_id

    def _end(self, keys: Collection[str]) -> None:
        """End owners; none of them writes anything after the return."""
        if keys:
            self._processes.kill(keys)
            self._processes.settle()
            self._residency.ended(keys)

    def _result(self, call: ray.ObjectRef[Written], job: TuningJob) -> TuningResult:
        cancelled = job.target in self._cancelled
        self._cancelled.discard(job.target)
        if job.key in self._residency.resident:
            # It is idle from now on.
            self._residency.called(job.key)
        try:
            return TuningResult(job, ray.get(call))
        except TuningCancelledError:
            return TuningResult(job, None)
        except LMEraserError as error:
            return TuningResult(job, None, _last_line(error), may_pass(error))
        except RayActorError as error:
            if cancelled:
                return TuningResult(job, None)
            # Its process may live on for a while where its node is gone, and must be gone before the next erasure.
            self._processes.kill([job.key])
            self._residency.ended([job.key])
            return TuningResult(job, None, _last_line(error))


def _wait_for_all(calls: Mapping[str, ray.ObjectRef[Any]]) -> None:
    """Return when all are answered, before one's error is raised: what is written after the sweep would stay."""
    waiting = list(calls.values())
    while waiting:
        _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=_WARN_S)
        if waiting:
            silent = sorted(key for key, call in calls.items() if call in waiting)
            _log.warning("no answer yet from the owners of clusters %s: is there room for them?", ", ".join(silent))


def _died(call: ray.ObjectRef[Any]) -> bool:
    try:
        ray.get(call, timeout=0)
    except RayActorError:
        return True
    except (GetTimeoutError, LMEraserError):
        return False
    return False


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]
