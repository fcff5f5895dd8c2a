"""Owners as Ray actors: named, detached, rebuilt from the store after a crash."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import ActorDiedError, ActorUnavailableError, GetTimeoutError, RayActorError

from actors.names import owner_name
from actors.owner import Owner, RowsJob, TuningJob, Written
from actors.owners import TuningResult, may_pass
from actors.process import Place, await_end
from lmeraser.errors import (
    LMEraserError,
    TuningCancelledError,
)
from lmeraser.keys import load_hash_key
from lmeraser.manifest import load_manifest
from lmeraser.store import open_store

if TYPE_CHECKING:
    from lmeraser.method import Method

NAMESPACE = "lmeraser"
_ANSWERS_WITHIN_S = 2.0
_ENDED_AFTER_S = 6.0
# An erasure should not wait for a process to start, and a machine should not hold thousands of them.
_STARTED_AHEAD = 64
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Site:
    """Where an actor finds its store and its keys. Ray persists it, so it holds neither rows nor secrets."""

    store_uri: str
    keys_folder: str


@dataclass(frozen=True)
class Share:
    """What Ray reserves for one owner."""

    num_cpus: float
    num_gpus: float = 0.0


class OwnerProcess:
    """An owner in its own process."""

    def __init__(self, site: Site, key: str) -> None:
        store = open_store(site.store_uri)
        manifest = load_manifest(store)

        @functools.cache
        def method() -> Method:
            from lmeraser.public import load_method

            return load_method(store, manifest)

        self._owner = Owner(store, manifest, load_hash_key(Path(site.keys_folder)), key, method)

    @ray.method(concurrency_group="control")
    def place(self) -> Place:
        """Where this process runs."""
        return Place.here()

    @ray.method(concurrency_group="control")
    def write_rows(self, job: RowsJob) -> Written:
        """See Owner.write_rows."""
        return self._owner.write_rows(job)

    @ray.method(concurrency_group="control")
    def cancel(self, target: str) -> None:
        """See Owner.cancel."""
        self._owner.cancel(target)

    @ray.method(concurrency_group="control")
    def progress(self) -> tuple[int, int]:
        """See Owner.progress."""
        return self._owner.progress()

    @ray.method(concurrency_group="work")
    def tune(self, job: TuningJob) -> Written:
        """See Owner.tune."""
        return self._owner.tune(job)


class RemoteOwners:
    """Owners as named, detached actors, one a cluster."""

    def __init__(self, site: Site, store_id: str, share: Share, slots: int) -> None:
        self._site = site
        self._store_id = store_id
        self._share = share
        self._slots = slots
        self._tunings: dict[ray.ObjectRef[Written], TuningJob] = {}
        self._places: dict[str, ray.ObjectRef[Place]] = {}
        self._to_start: list[str] = []
        self._starting: ray.ObjectRef[Place] | None = None

    def prepare(self, keys: Collection[str]) -> None:
        named = ray.util.list_named_actors(all_namespaces=True)
        prefix = owner_name(self._store_id, self._site.store_uri, "")
        there = {actor["name"].removeprefix(prefix) for actor in named if actor["name"].startswith(prefix)}
        # What they do, they were told by a registrar that is no more.
        self.retire(there)
        self._to_start = list(keys)[:_STARTED_AHEAD]

    def start_ahead(self) -> None:
        # One after the other: many at once starve what else starts on a small machine, such as Serve's proxy.
        if self._starting is not None and not ray.wait([self._starting], timeout=0)[0]:
            return
        self._starting = None
        if self._to_start:
            key = self._to_start.pop(0)
            self._owner(key)
            self._starting = self._places[key]

    @property
    def slots(self) -> int:
        return self._slots

    def write_rows(self, jobs: Iterable[RowsJob]) -> dict[str, Written]:
        pending = {job.region.key: job for job in jobs}
        done: dict[str, Written] = {}
        while pending:
            calls = {key: self._owner(key).write_rows.remote(job) for key, job in pending.items()}
            # All of them, before one's error is raised: what is written after the sweep would stay.
            ray.wait(list(calls.values()), num_returns=len(calls))
            for key, call in calls.items():
                try:
                    done[key] = ray.get(call)
                    del pending[key]
                except (ActorDiedError, ActorUnavailableError):
                    # Row objects count only once a commit names them, so writing one twice does no harm.
                    _log.warning("the owner of cluster %s died while it wrote its rows; it is asked again", key)
                    time.sleep(1)
        return done

    def start_tuning(self, job: TuningJob) -> None:
        self._tunings[self._owner(job.key).tune.remote(job)] = job

    def finished(self) -> list[TuningResult]:
        if not self._tunings:
            return []
        ready, _ = ray.wait(list(self._tunings), num_returns=len(self._tunings), timeout=0)
        return [_result(call, self._tunings.pop(call)) for call in ready]

    def stop_tuning(self, keys: Collection[str]) -> None:
        jobs = [job for job in self._tunings.values() if job.key in keys]
        calls = {self._owner(job.key).cancel.remote(job.target): job.key for job in jobs}
        if not calls:
            return
        _, silent = ray.wait(list(calls), num_returns=len(calls), timeout=_ANSWERS_WITHIN_S)
        if silent:
            stuck = {calls[call] for call in silent}
            _log.warning("the owners of clusters %s do not answer; they are ended", ", ".join(sorted(stuck)))
            self.retire(stuck)

    def retire(self, keys: Collection[str]) -> None:
        ending: list[Place | None] = []
        for key in keys:
            try:
                owner = ray.get_actor(owner_name(self._store_id, self._site.store_uri, key), namespace=NAMESPACE)
            except ValueError:
                continue
            ending.append(self._place(key, owner))
            ray.kill(owner)
            self._places.pop(key, None)
        for place in ending:
            if place is not None:
                await_end(place)
        if None in ending:
            # It did not say where it is, so it is frozen or still starting: wait for as long as Ray takes to end it.
            time.sleep(_ENDED_AFTER_S)

    def _place(self, key: str, owner: ActorHandle[OwnerProcess]) -> Place | None:
        try:
            place: Place = ray.get(self._places.get(key) or owner.place.remote(), timeout=_ANSWERS_WITHIN_S)
            return place
        except (GetTimeoutError, RayActorError):
            return None

    def _owner(self, key: str) -> ActorHandle[OwnerProcess]:
        owner = _OWNER.options(
            **DETACHED,
            name=owner_name(self._store_id, self._site.store_uri, key),
            num_cpus=self._share.num_cpus,
            num_gpus=self._share.num_gpus,
        ).remote(self._site, key)
        # Asked again each time, because Ray may have restarted it elsewhere.
        self._places[key] = owner.place.remote()
        return owner


def _result(call: ray.ObjectRef[Written], job: TuningJob) -> TuningResult:
    try:
        return TuningResult(job, ray.get(call))
    except TuningCancelledError:
        return TuningResult(job, None)
    except (LMEraserError, RayActorError) as error:
        return TuningResult(job, None, str(error).strip().splitlines()[-1], may_pass(error))


# Mutations are never repeated by Ray (max_task_retries 0): the caller decides, and every call is idempotent.
_OWNER = ray.remote(concurrency_groups={"control": 4, "work": 1}, max_task_retries=0)(OwnerProcess)
DETACHED: dict[str, Any] = {
    "namespace": NAMESPACE,
    "lifetime": "detached",
    "get_if_exists": True,
    "max_restarts": -1,
}
