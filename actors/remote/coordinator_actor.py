"""The coordinator as a Ray actor: named, detached, rebuilt from the store after a crash."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError

from actors.coordinator import Coordinator
from actors.ingests import IngestOutcome
from actors.owners import is_transient
from actors.remote.metrics import CoordinatorMetrics
from actors.remote.names import coordinator_name
from actors.remote.nodes import Placement
from actors.remote.owner_pool import OwnerPool
from actors.remote.owner_processes import DETACHED, StoreRef, where
from actors.remote.process import ProcessLocation
from lmeraser.deletion import Deletion, DeletionRequest
from lmeraser.errors import FencedError, StoreError
from lmeraser.state.fingerprint import check_fingerprint, fingerprint
from lmeraser.state.keys import load_hash_key, load_signing_key
from lmeraser.state.manifest import load_manifest
from lmeraser.store import open_store

_IDLE_S = 0.02
# Prometheus asks every 10 to 60 s.
_REPORT_S = 10.0
_RESTART_PAUSE_S = 1.0
# What the process takes before any row; it grows with the rows.
_MEMORY_BYTES = 400 * 2**20
_log = logging.getLogger(__name__)


class CoordinatorActor:
    """The coordinator in its own process, with a thread that does its work."""

    def __init__(self, site: StoreRef, placement: Placement) -> None:
        # Ray's workers log errors only; what an owner's end means is worth a line.
        logging.getLogger("actors").setLevel(logging.WARNING)
        store = open_store(site.store_uri)
        manifest = load_manifest(store)
        # The coordinator solves the heads, so its numerics count as the owners' do; rows go through no GPU here.
        check_fingerprint(
            manifest.fingerprint, fingerprint(manifest.feature_batch, manifest.fingerprint["accelerator"])
        )
        keys = Path(site.keys_folder)
        self._owners = owners = OwnerPool(site, manifest.store_id, placement)

        def take_over() -> Coordinator:
            store.check()
            return Coordinator(store, manifest, load_hash_key(keys), load_signing_key(keys), owners, manifest.lease_s)

        self._coordinator = _opened(take_over)
        self._metrics = CoordinatorMetrics(self._coordinator.deletions())
        self._reported_at = 0.0
        self._itself = ray.get_runtime_context().current_actor
        threading.Thread(target=self._work, name="coordinator", daemon=True).start()

    def delete(self, request: DeletionRequest) -> Deletion:
        """See Coordinator.delete."""
        return self._coordinator.delete(request)

    def retry(self, deletion_id: str) -> Deletion:
        """See Coordinator.retry."""
        return self._coordinator.retry(deletion_id)

    def deletion(self, deletion_id: str) -> Deletion:
        """See Coordinator.deletion."""
        return self._coordinator.deletion(deletion_id)

    def deletions(self) -> list[Deletion]:
        """See Coordinator.deletions."""
        return self._coordinator.deletions()

    def receipt(self, deletion_id: str) -> dict[str, Any]:
        """See Coordinator.receipt."""
        return self._coordinator.receipt(deletion_id)

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
        """See Coordinator.ingest; returns once the rows are committed."""
        return self._coordinator.ingest(prefix, force).result()

    def place(self) -> ProcessLocation:
        """Where this process runs."""
        return ProcessLocation.here()

    def owner_places(self) -> dict[str, ProcessLocation]:
        """Where the owners run that have a process now, by cluster key."""
        return self._owners.places()

    def drain(self) -> None:
        """Have no tunings started any more, and idle owners ended; requests are taken in and erased as ever."""
        self._owners.drain()

    def status(self) -> dict[str, Any]:
        """See Coordinator.status."""
        return {**self._coordinator.status(), "idle": self._coordinator.idle()}

    def _work(self) -> None:
        pause_s = _IDLE_S
        while True:
            try:
                self._report()
                pause_s = 0.0 if self._coordinator.step() else _IDLE_S
            except FencedError as error:
                _log.error("%s; this coordinator ends", error)
                ray.kill(self._itself, no_restart=True)
                return
            except Exception as error:
                if is_transient(error) or isinstance(error, RayError):
                    pause_s = min(max(2 * pause_s, 0.1), 10.0)
                    _log.exception("the coordinator's step failed and is tried again in %.1f s: %s", pause_s, error)
                    time.sleep(pause_s)
                    continue
                # What it holds in memory can no longer be trusted, or an object is damaged: Ray starts it again from
                # the store, and what can be mended is.
                _log.exception("the coordinator's step failed; it starts again from the store: %s", error)
                time.sleep(_RESTART_PAUSE_S)
                ray.kill(self._itself, no_restart=False)
                return
            time.sleep(pause_s)

    def _report(self) -> None:
        if time.monotonic() - self._reported_at >= _REPORT_S:
            self._metrics.report(self._coordinator.deletions(), self._coordinator.status())
            self._reported_at = time.monotonic()


def _opened(take_over: Callable[[], Coordinator]) -> Coordinator:
    """The coordinator; one that Ray starts again waits until it can write to its store.

    Ray ends an actor for good when its constructor raises.
    """
    while True:
        try:
            return take_over()
        except (StoreError, RayError) as error:
            may = isinstance(error, RayError) or is_transient(error)
            if not (may and ray.get_runtime_context().was_current_actor_reconstructed):
                raise
            _log.error("the coordinator cannot take over its store, and tries again: %s", error)
            time.sleep(_RESTART_PAUSE_S)


def open_coordinator(site: StoreRef, store_id: str, placement: Placement) -> ActorHandle[CoordinatorActor]:
    """The store's coordinator; started where none runs on this Ray cluster, on a node of those that compute state.

    Ray places an actor that asks for nothing on any node, at random, the head with ``num-cpus: 0`` among them. One that
    asks for little finds room on a laptop as well.
    """
    name = coordinator_name(store_id, site.store_uri)
    options = {**DETACHED, **where(placement), "num_cpus": placement.num_cpus, "memory": _MEMORY_BYTES}
    return _COORDINATOR.options(**options, name=name).remote(site, placement)


# Mutations are never repeated by Ray (max_task_retries 0): the caller decides, and every call is idempotent.
_COORDINATOR = ray.remote(max_concurrency=32, max_task_retries=0)(CoordinatorActor)
