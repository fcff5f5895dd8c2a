"""The coordinator as a Ray actor: named, detached, rebuilt from the store after a crash."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError

from actors.coordinator import BUSY_S, IDLE_S, Coordinator
from actors.coordinator_status import CoordinatorStatus, RebuildStatus
from actors.ingests import IngestOutcome
from actors.owners import is_transient
from actors.passages import passage
from actors.remote.metrics import CoordinatorMetrics, LogMetrics, StepMetrics, kind_of
from actors.remote.names import coordinator_name
from actors.remote.owner_pool import OwnerPool
from actors.remote.placement import DETACHED, Placement, StoreRef, node_options, numerics_selector
from actors.remote.process import ProcessLocation
from actors.remote.store_metrics import StoreMetrics
from actors.tracing import tracing
from lmeraser.deletion import Deletion, DeletionRequest, Preview, Status
from lmeraser.errors import FencedError, FingerprintError, RequestError, StoreError
from lmeraser.log_level import set_log_level
from lmeraser.paging import Page
from lmeraser.proof.outcomes import Outcome, outcomes
from lmeraser.state.fingerprint import check_fingerprint, fingerprint_here
from lmeraser.state.keys import load_hash_key, load_signing_key
from lmeraser.state.log import Log
from lmeraser.state.manifest import load_manifest
from lmeraser.store import open_store
from lmeraser.store.observed import ObservedStore

# Prometheus scrapes every 10 to 60 s.
_REPORT_S = 10.0
_RESTART_PAUSE_S = 1.0
# What the process needs before any row; its memory grows with the rows.
_MEMORY_BYTES = 400 * 2**20
T = TypeVar("T")
_log = logging.getLogger(__name__)


class CoordinatorActor:
    """The coordinator in its own process, with a thread that does its work (decision 1)."""

    def __init__(self, store_ref: StoreRef, placement: Placement) -> None:
        set_log_level()
        self._store_ref = store_ref
        self._placement = placement
        self._store = ObservedStore(open_store(store_ref.store_uri), StoreMetrics("coordinator").observe)
        self._log_metrics = LogMetrics()
        self._draining = False
        self._drafting = ThreadPoolExecutor(1, thread_name_prefix="draft")
        self._coordinator = _opened(self._take_over)
        self._metrics = CoordinatorMetrics(self._coordinator.recent_deletions())
        self._traces = tracing("coordinator")
        self._observers = (StepMetrics().observe, *self._traces)
        self._reported_at = 0.0
        self._itself = ray.get_runtime_context().current_actor
        threading.Thread(target=self._work, name="coordinator", daemon=True).start()

    def delete(self, request: DeletionRequest) -> Deletion:
        """See Coordinator.delete."""
        with passage("coordinator.delete", self._traces) as passed:
            deletion = self._of_generation(lambda coordinator: coordinator.delete(request))
            passed.attributes["deletion"] = deletion.id
        return deletion

    def preview(self, request: DeletionRequest, with_ids: bool) -> Preview:
        """See Previews.preview."""
        return self._of_generation(lambda coordinator: coordinator.previews.preview(request, with_ids=with_ids))

    def preview_of(self, deletion_id: str, with_ids: bool) -> Preview:
        """See Previews.preview_of."""
        return self._of_generation(lambda coordinator: coordinator.previews.preview_of(deletion_id, with_ids=with_ids))

    def approve(self, deletion_id: str, by: str, preview: str | None) -> Deletion:
        """See Approvals.approve."""
        return self._of_generation(lambda coordinator: coordinator.approvals.approve(deletion_id, by, preview))

    def decline(self, deletion_id: str, by: str, reason: str) -> Deletion:
        """See Approvals.decline."""
        return self._of_generation(lambda coordinator: coordinator.approvals.decline(deletion_id, by, reason))

    def require_approval(self, required: bool) -> None:
        """See Approvals.require."""
        self._of_generation(lambda coordinator: coordinator.approvals.require(required))

    def retry(self, deletion_id: str) -> Deletion:
        """See Coordinator.retry."""
        return self._of_generation(lambda coordinator: coordinator.retry(deletion_id))

    def deletion(self, deletion_id: str) -> Deletion:
        """See Deletions.deletion."""
        return self._coordinator.deletion(deletion_id)

    def deletions(self, limit: int, cursor: str | None = None, status: Status | None = None) -> Page[Deletion]:
        """See Deletions.page."""
        return self._coordinator.deletions(limit, cursor, status)

    def receipt(self, deletion_id: str) -> dict[str, Any]:
        """See Deletions.receipt."""
        return self._coordinator.receipt(deletion_id)

    def outcomes(
        self, sample_ids: tuple[str, ...], subject_ids: tuple[str, ...], deletions: tuple[str, ...]
    ) -> list[Outcome]:
        """See :func:`outcomes`. Reads the whole log."""
        hash_key = load_hash_key(Path(self._store_ref.keys_folder))
        return outcomes(Log(self._store).advance(), hash_key, sample_ids, subject_ids, deletions)

    def begin_ingest(self) -> str:
        """See Coordinator.begin_ingest."""
        return self._coordinator.begin_ingest()

    def renew_ingest(self, prefix: str) -> None:
        """See Prefixes.renew."""
        self._coordinator.prefixes.renew(prefix)

    def abandon_ingest(self, prefix: str) -> None:
        """See Prefixes.drop."""
        self._coordinator.prefixes.drop(prefix)

    def ingest(self, prefix: str, force: bool = False) -> IngestOutcome:
        """See Coordinator.ingest; returns when the rows are committed."""
        coordinator = self._coordinator
        return _outcome(coordinator.ingest(prefix, force), lambda: coordinator is self._coordinator)

    def sweep_everything(self) -> None:
        """See Coordinator.sweep_everything; returns when it is done."""
        coordinator = self._coordinator
        _outcome(coordinator.sweep_everything(), lambda: coordinator is self._coordinator)

    def begin_rebuild(self) -> str:
        """See Rebuilds.begin."""
        return self._coordinator.rebuilds.begin()

    def open_draft(self) -> None:
        """See Rebuilds.open."""
        self._coordinator.rebuilds.open()

    def abandon_rebuild(self) -> None:
        """See Rebuilds.abandon."""
        self._coordinator.rebuilds.abandon()

    def rebuild_status(self) -> RebuildStatus | None:
        """See Rebuilds.status."""
        return self._coordinator.rebuilds.status()

    def begin_fill(self) -> str:
        """See Rebuilds.begin_fill."""
        return self._coordinator.rebuilds.begin_fill()

    def renew_fill(self, prefix: str) -> None:
        """See Rebuilds.renew_fill."""
        self._coordinator.rebuilds.renew_fill(prefix)

    def abandon_fill(self, prefix: str) -> None:
        """See Rebuilds.abandon_fill."""
        self._coordinator.rebuilds.abandon_fill(prefix)

    def fill(self, prefix: str) -> IngestOutcome:
        """See Rebuilds.fill; returns when the rows are committed."""
        rebuilds = self._coordinator.rebuilds
        draft = rebuilds.draft.opened()
        return _outcome(rebuilds.fill(prefix), lambda: not rebuilds.switched and rebuilds.draft.coordinator is draft)

    def location(self) -> ProcessLocation:
        """Where this process runs."""
        return ProcessLocation.here()

    def owner_locations(self) -> dict[str, ProcessLocation]:
        """Where the resident owners run, by cluster key."""
        return self._owners.locations()

    def drain(self) -> None:
        """Start no more tunings, and end idle owners; requests are still accepted and erased."""
        self._owners.drain()
        self._draining = True

    def status(self) -> CoordinatorStatus:
        """See Coordinator.status."""
        return self._coordinator.status()

    def _work(self) -> None:
        pause_s = 0.0
        while True:
            try:
                self._report()
                if self._coordinator.rebuilds.switched:
                    # The owners of the other generation have ended.
                    self._coordinator = self._take_over()
                if not self._step():
                    self._coordinator.rest(BUSY_S if self._draining else IDLE_S)
                pause_s = 0.0
            except FencedError as error:
                _log.error("%s; this coordinator stops", error)
                ray.kill(self._itself, no_restart=True)
                return
            except Exception as error:
                if is_transient(error) or isinstance(error, RayError):
                    pause_s = min(max(2 * pause_s, 0.1), 10.0)
                    _log.exception("the coordinator's step failed; retrying in %.1f s: %s", pause_s, error)
                    time.sleep(pause_s)
                    continue
                # Its memory can no longer be trusted, or an object is damaged: Ray restarts it from the store, and the
                # start repairs what can be repaired (decision 8).
                _log.exception("the coordinator's step failed; restarting from the store: %s", error)
                time.sleep(_RESTART_PAUSE_S)
                ray.kill(self._itself, no_restart=False)
                return

    def _take_over(self) -> Coordinator:
        """The coordinator of the store's generation, with its owners on the nodes of its numerics.

        Where the numerics here are others, it tunes nothing.
        """
        self._store.check()
        manifest, keys = load_manifest(self._store), Path(self._store_ref.keys_folder)
        # It was placed by the numerics of the generation that the store had then.
        placement = replace(self._placement, numerics=numerics_selector(manifest.fingerprint))
        self._owners = OwnerPool(self._store_ref, manifest.store_id, placement)
        if self._draining:
            self._owners.drain()
        coordinator = Coordinator(
            self._store,
            manifest,
            load_hash_key(keys),
            load_signing_key(keys),
            self._owners,
            manifest.lease_s,
            on_append=self._log_metrics.observe,
            drafting=self._drafting,
        )
        try:
            check_fingerprint(manifest.fingerprint, fingerprint_here(manifest.fingerprint))
        except FingerprintError as error:
            _log.error("%s", error)
            coordinator.hold_tunings(str(error))
        return coordinator

    def _of_generation(self, call: Callable[[Coordinator], T]) -> T:
        """What the coordinator answers; while a switch replaces it, what its successor answers."""
        while True:
            coordinator = self._coordinator
            try:
                return call(coordinator)
            except FencedError:
                if not coordinator.rebuilds.switched:
                    raise
                time.sleep(BUSY_S)

    def _step(self) -> bool:
        with passage("coordinator.step", self._observers) as passed:
            passed.idle = not self._coordinator.step()
            passed.attributes["kind"] = kind_of(passed)
        return not passed.idle

    def _report(self) -> None:
        if time.monotonic() - self._reported_at >= _REPORT_S:
            deletions, status = self._coordinator.recent_deletions(), self._coordinator.status()
            self._metrics.report(deletions, status, self._owners.started)
            self._reported_at = time.monotonic()


def _outcome(future: Future[T], lasts: Callable[[], bool]) -> T:
    """What a coordinator was asked for. Raises RequestError where another one, or none, takes its place before."""
    while not wait([future], timeout=IDLE_S).done:
        if not lasts():
            raise RequestError(
                "the store was rebuilt, or its draft was opened again or given up, meanwhile: start again"
            )
    return future.result()


def _opened(take_over: Callable[[], Coordinator]) -> Coordinator:
    """The coordinator; one that Ray restarts waits until it can write to its store.

    Ray gives up an actor permanently if its constructor raises.
    """
    while True:
        try:
            return take_over()
        except (StoreError, RayError) as error:
            may_retry = isinstance(error, RayError) or is_transient(error)
            if not (may_retry and ray.get_runtime_context().was_current_actor_reconstructed):
                raise
            _log.error("the coordinator cannot take over its store yet; retrying: %s", error)
            time.sleep(_RESTART_PAUSE_S)


def open_coordinator(store_ref: StoreRef, store_id: str, placement: Placement) -> ActorHandle[CoordinatorActor]:
    """The store's coordinator; if none runs on this Ray cluster, it is started on a node that computes state.

    Ray places an actor that reserves nothing on a random node, even on a head with ``num-cpus: 0``. The coordinator
    reserves so little that it also fits on a laptop.
    """
    name = coordinator_name(store_id, store_ref.store_uri)
    options = {**DETACHED, **node_options(placement), "num_cpus": placement.num_cpus, "memory": _MEMORY_BYTES}
    return _COORDINATOR.options(**options, name=name).remote(store_ref, placement)


# Ray never repeats a mutation (max_task_retries 0): the caller decides, and every call is idempotent.
_COORDINATOR = ray.remote(max_concurrency=32, max_task_retries=0)(CoordinatorActor)
