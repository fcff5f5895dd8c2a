"""Starting a store's coordinator again when Ray no longer does (decision 51).

Ray restarts a coordinator whose process or node ends. It gives up one that was ended by ``ray.kill`` or whose
constructor raised, and all of them when the cluster's control plane is lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import ray
from ray.actor import ActorHandle
from ray.exceptions import ActorDiedError

from actors.coordinator_status import CoordinatorStatus
from actors.remote.names import NAMESPACE, coordinator_name
from actors.remote.owner_resources import owner_placement
from actors.remote.placement import StoreRef
from lmeraser.config import DeletionsConfig, OwnersConfig
from lmeraser.state.checkpoint import CommitReader
from lmeraser.state.log import Record
from lmeraser.state.manifest import load_manifest
from lmeraser.store import open_store

if TYPE_CHECKING:
    from actors.remote.coordinator_actor import CoordinatorActor

LOOK_S = 2.0
# Nothing is urgent while the coordinator of another Ray cluster works.
REPLACED_LOOK_S = 30.0
# Two Ray clusters that are meant to work on one store at a time overlap for minutes, while one replaces the other.
QUIET_S = 300.0
_REPLY_S = 30.0


class Supervisor:
    """Looks after the coordinator of one store on one Ray cluster.

    A coordinator that another Ray cluster's has replaced is not started again while that one works: they would keep
    replacing each other. It is once the log has not grown for :data:`QUIET_S`, because the other cluster may be gone.
    """

    def __init__(
        self,
        site: StoreRef,
        owners: OwnersConfig,
        deletions: DeletionsConfig | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is started yet.

        Args:
            site: the store and its keys.
            owners: how owners are placed.
            deletions: what deletions need; what they needed before when None.
            clock: seconds that only grow.

        Raises:
            StoreError: when the store cannot be read.
        """
        self._site = site
        self._owners = owners
        # Recorded once; whoever changes it later means to.
        self._approval = deletions.required if deletions is not None else None
        self._clock = clock
        self._store = open_store(site.store_uri)
        self._manifest = load_manifest(self._store)
        # The newest term that belongs to this Ray cluster; None before the first coordinator was seen.
        self._term: int | None = None
        self._foreign_number = 0
        self._foreign_since_s = 0.0

    def look(self) -> float:
        """Start the coordinator if there is none; returns the seconds until the next look.

        Blocks until a coordinator that it starts has read its store.

        Raises:
            LMEraserError: when the store cannot be read.
            RayError: when the coordinator does not start, or does not answer now.
        """
        coordinator = self._existing()
        if coordinator is not None:
            self._term = _term_of(coordinator, _REPLY_S)
            self._record_policy(coordinator)
        elif self._is_replaced():
            return REPLACED_LOOK_S
        else:
            self._start()
        return LOOK_S

    def _existing(self) -> ActorHandle[CoordinatorActor] | None:
        name = coordinator_name(self._manifest.store_id, self._site.store_uri)
        try:
            return ray.get_actor(name, namespace=NAMESPACE)
        except ValueError:
            return None

    def _is_replaced(self) -> bool:
        """Whether another Ray cluster's coordinator has taken over, and its last record is not old."""
        newest = self._newest_record()
        if self._term is None or newest is None or newest.term <= self._term:
            return False
        if newest.number != self._foreign_number:
            self._foreign_number, self._foreign_since_s = newest.number, self._clock()
        return self._clock() - self._foreign_since_s < QUIET_S

    def _start(self) -> None:
        # Loads 120 MB of what the coordinator computes with; a supervisor that starts none does without.
        from actors.remote.coordinator_actor import open_coordinator

        placement = owner_placement(self._owners, self._store, self._manifest)
        coordinator = open_coordinator(self._site, self._manifest.store_id, placement)
        try:
            self._term = _term_of(coordinator)
            self._record_policy(coordinator)
        except ActorDiedError:
            # Its constructor raised, perhaps after it had opened a term, which must not pass for another cluster's.
            newest = self._newest_record()
            self._term = newest.term if newest is not None else 0
            raise

    def _record_policy(self, coordinator: ActorHandle[CoordinatorActor]) -> None:
        if self._approval is not None:
            ray.get(coordinator.require_approval.remote(self._approval), timeout=_REPLY_S)
            self._approval = None

    def _newest_record(self) -> Record | None:
        reader = CommitReader(self._store)
        reader.advance()
        return reader.log.head


def _term_of(coordinator: ActorHandle[CoordinatorActor], timeout_s: float | None = None) -> int:
    status: CoordinatorStatus = ray.get(coordinator.status.remote(), timeout=timeout_s)
    return status.term
