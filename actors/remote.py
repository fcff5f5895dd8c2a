"""Registrar and owners as Ray actors: named, detached, rebuilt from the store after a crash."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import ActorDiedError, ActorUnavailableError, GetTimeoutError, RayActorError

from actors.owner import Owner, RowsJob, TuningJob, Written
from actors.owners import TuningResult
from actors.process import Place, await_end
from actors.registrar import Registrar
from lmeraser.deletion import Deletion
from lmeraser.errors import FencedError, LMEraserError, StoreError, TuningCancelledError
from lmeraser.keys import load_hash_key, load_signing_key
from lmeraser.manifest import load_manifest
from lmeraser.store import open_store

if TYPE_CHECKING:
    from lmeraser.method import Method

NAMESPACE = "lmeraser"
_ANSWERS_WITHIN_S = 2.0
_ENDED_AFTER_S = 6.0
# An erasure should not wait for a process to start, and a machine should not hold thousands of them.
_STARTED_AHEAD = 64
_IDLE_S = 0.02
_RESTART_PAUSE_S = 1.0
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

    def prepare(self, keys: Collection[str]) -> None:
        named = ray.util.list_named_actors(all_namespaces=True)
        prefix = owner_name(self._store_id, "")
        there = {actor["name"].removeprefix(prefix) for actor in named if actor["name"].startswith(prefix)}
        # What they do, they were told by a registrar that is no more.
        self.retire(there)
        for key in list(keys)[:_STARTED_AHEAD]:
            self._owner(key)

    @property
    def slots(self) -> int:
        return self._slots

    def write_rows(self, jobs: Iterable[RowsJob]) -> dict[str, Written]:
        pending = {job.region.key: job for job in jobs}
        done: dict[str, Written] = {}
        while pending:
            calls = {key: self._owner(key).write_rows.remote(job) for key, job in pending.items()}
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
                owner = ray.get_actor(owner_name(self._store_id, key), namespace=NAMESPACE)
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
            **_DETACHED,
            name=owner_name(self._store_id, key),
            num_cpus=self._share.num_cpus,
            num_gpus=self._share.num_gpus,
        ).remote(self._site, key)
        # Asked again each time, because Ray may have restarted it elsewhere.
        self._places[key] = owner.place.remote()
        return owner


class RegistrarProcess:
    """The registrar in its own process, with a thread that does its work."""

    def __init__(self, site: Site, share: Share, slots: int, lease_s: float) -> None:
        store = open_store(site.store_uri)
        manifest = load_manifest(store)
        keys = Path(site.keys_folder)
        owners = RemoteOwners(site, manifest.store_id, share, slots)
        self._registrar = Registrar(store, manifest, load_hash_key(keys), load_signing_key(keys), owners, lease_s)
        self._itself = ray.get_runtime_context().current_actor
        threading.Thread(target=self._work, name="registrar", daemon=True).start()

    def delete(
        self, sample_ids: Sequence[str], subject_ids: Sequence[str], idempotency_key: str | None = None
    ) -> Deletion:
        """See Registrar.delete."""
        return self._registrar.delete(sample_ids, subject_ids, idempotency_key)

    def deletion(self, deletion_id: str) -> Deletion:
        """See Registrar.deletion."""
        return self._registrar.deletion(deletion_id)

    def deletions(self) -> list[Deletion]:
        """See Registrar.deletions."""
        return self._registrar.deletions()

    def receipt(self, deletion_id: str) -> dict[str, Any]:
        """See Registrar.receipt."""
        return self._registrar.receipt(deletion_id)

    def begin_ingest(self) -> str:
        """See Registrar.begin_ingest."""
        return self._registrar.begin_ingest()

    def ingest(self, prefix: str, force: bool = False) -> int:
        """See Registrar.ingest; returns once the rows are committed."""
        return self._registrar.ingest(prefix, force).result()

    def place(self) -> Place:
        """Where this process runs."""
        return Place.here()

    def status(self) -> dict[str, Any]:
        """See Registrar.status."""
        return {**self._registrar.status(), "idle": self._registrar.idle()}

    def _work(self) -> None:
        pause_s = _IDLE_S
        while True:
            try:
                pause_s = 0.0 if self._registrar.step() else _IDLE_S
            except FencedError as error:
                _log.error("%s; this registrar ends", error)
                ray.kill(self._itself, no_restart=True)
                return
            except (StoreError, RayActorError) as error:
                pause_s = min(max(2 * pause_s, 0.1), 10.0)
                _log.exception("the registrar's step failed and is tried again in %.1f s: %s", pause_s, error)
            except Exception:
                # What it holds in memory can no longer be trusted; Ray starts it again from the store.
                _log.exception("the registrar's step failed in an unforeseen way; it starts again from the store")
                time.sleep(_RESTART_PAUSE_S)
                ray.kill(self._itself, no_restart=False)
                return
            time.sleep(pause_s)


def owner_name(store_id: str, key: str) -> str:
    """The Ray name of a cluster's owner."""
    return f"owner/{store_id}/{key}"


def registrar_name(store_id: str) -> str:
    """The Ray name of a store's registrar."""
    return f"registrar/{store_id}"


def open_registrar(
    site: Site, store_id: str, share: Share, slots: int, lease_s: float
) -> ActorHandle[RegistrarProcess]:
    """The store's registrar; started where none runs on this Ray cluster."""
    return _REGISTRAR.options(**_DETACHED, name=registrar_name(store_id)).remote(site, share, slots, lease_s)


def _result(call: ray.ObjectRef[Written], job: TuningJob) -> TuningResult:
    try:
        return TuningResult(job, ray.get(call))
    except TuningCancelledError:
        return TuningResult(job, None)
    except (LMEraserError, RayActorError) as error:
        return TuningResult(job, None, str(error).strip().splitlines()[-1])


# Mutations are never repeated by Ray (max_task_retries 0): the caller decides, and every call is idempotent.
_OWNER = ray.remote(concurrency_groups={"control": 4, "work": 1}, max_task_retries=0)(OwnerProcess)
_REGISTRAR = ray.remote(max_concurrency=32, num_cpus=0, max_task_retries=0)(RegistrarProcess)
_DETACHED: dict[str, Any] = {
    "namespace": NAMESPACE,
    "lifetime": "detached",
    "get_if_exists": True,
    "max_restarts": -1,
}
