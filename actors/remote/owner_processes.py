"""The processes of owners: started by name, and ended in such a way that their end is certain (decision 6)."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError

from actors.remote.names import NAMESPACE, owner_name
from actors.remote.owner_actor import OwnerActor
from actors.remote.placement import DETACHED, Placement, StoreRef, node_options
from actors.remote.process import ProcessLocation, await_end

REPLY_TIMEOUT_S = 2.0
_ENDED_AFTER_S = 6.0

# Ray never repeats a mutation (max_task_retries 0): the caller decides, and every call is idempotent.
_OWNER = ray.remote(concurrency_groups={"control": 4, "work": 1}, max_task_retries=0)(OwnerActor)


@dataclass
class _OwnerRecord:
    """What is known of one owner's processes.

    Attributes:
        replies: to the question where the owner runs, oldest first. All of them count: if a node was lost and Ray has
            restarted the owner on another one, the previous process may still be alive.
        never_worked: whether the owner was only started ahead, and so can have written nothing.
    """

    never_worked: bool = False
    replies: list[ray.ObjectRef[ProcessLocation]] = field(default_factory=list)

    def add_call(self, owner: ActorHandle[OwnerActor]) -> None:
        """Ask again, since Ray may have restarted the owner elsewhere; the same answer is kept only twice."""
        if len(self.replies) > 1:
            latest = _reply(self.replies[-1])
            if latest is not None and latest == _reply(self.replies[-2]):
                self.replies.pop()
        self.replies.append(owner.location.remote())

    def location(self) -> ProcessLocation | None:
        """Where the owner runs according to the latest reply; None while it has not answered."""
        return _reply(self.replies[-1]) if self.replies else None

    def locations(self) -> set[ProcessLocation]:
        """Every process that the owner is known to have had."""
        return {location for location in map(_reply, self.replies) if location is not None}


class OwnerProcesses:
    """The processes of one store's owners.

    Attributes:
        started: how many owners were started, not counting those that Ray started again.
    """

    def __init__(self, store_ref: StoreRef, store_id: str, placement: Placement) -> None:
        self.started = 0
        self._store_ref = store_ref
        self._store_id = store_id
        self._placement = placement
        self._records: dict[str, _OwnerRecord] = {}
        self._ended: list[ProcessLocation] = []
        self._certain_from_s = 0.0

    def named(self) -> set[str]:
        """Keys of all owners that Ray knows, regardless of which process started them."""
        prefix = self._name("")
        named = ray.util.list_named_actors(all_namespaces=True)
        return {actor["name"].removeprefix(prefix) for actor in named if actor["name"].startswith(prefix)}

    def start(self, key: str, node_id: str | None, *, to_tune: bool) -> ray.ObjectRef[ProcessLocation]:
        """Start an owner ahead of its first call, preferably on this node; the reference is ready once it runs.

        Args:
            key, node_id, to_tune: as in :meth:`to_call`.
        """
        record = self._records.setdefault(key, _OwnerRecord(never_worked=True))
        self._reach(key, node_id, gpus=self._gpus(to_tune=to_tune))
        return record.replies[-1]

    def to_call(self, key: str, node_id: str | None, *, to_tune: bool) -> ActorHandle[OwnerActor]:
        """The owner, ready to be called; it is started if it has no process.

        Args:
            key: its cluster.
            node_id: the node on which it is preferably started.
            to_tune: whether an owner that is started gets its share of a GPU.
        """
        self._records.setdefault(key, _OwnerRecord()).never_worked = False
        return self._reach(key, node_id, gpus=self._gpus(to_tune=to_tune))

    def location(self, key: str) -> ProcessLocation | None:
        """Where an owner runs; None until it has reported it."""
        record = self._records.get(key)
        return record.location() if record is not None else None

    def kill(self, keys: Collection[str]) -> None:
        """End owners; only after :meth:`settle` is their end certain.

        Waits at most 2 s for owners that have not yet reported where they run.
        """
        owners = self._existing(keys)
        records = {key: self._records.pop(key, _OwnerRecord()) for key in keys}
        worked = {key: record for key, record in records.items() if not record.never_worked}
        for key in worked.keys() & owners.keys():
            if worked[key].location() is None:
                worked[key].add_call(owners[key])
        self._collect(worked.values())
        for owner in owners.values():
            ray.kill(owner)

    def settle(self) -> None:
        """Return once every owner that was ended is certain to have no process.

        Raises:
            StoreError: when a process outlives its end, so that nothing may count as erased yet.
        """
        while self._ended:
            if not await_end(self._ended[-1]):
                self._doubt()
            self._ended.pop()
        time.sleep(max(0.0, self._certain_from_s - time.monotonic()))

    def _existing(self, keys: Iterable[str]) -> Mapping[str, ActorHandle[OwnerActor]]:
        """Handles of those of these owners that Ray knows."""
        owners: dict[str, ActorHandle[OwnerActor]] = {}
        for key in keys:
            with suppress(ValueError):
                owners[key] = ray.get_actor(self._name(key), namespace=NAMESPACE)
        return owners

    def _collect(self, records: Collection[_OwnerRecord]) -> None:
        """Note the processes whose end :meth:`settle` has to await."""
        replies = [reply for record in records for reply in record.replies]
        if replies:
            ray.wait(replies, num_returns=len(replies), timeout=REPLY_TIMEOUT_S)
        for record in records:
            self._ended += record.locations()
            if record.replies and record.location() is None:
                self._doubt()

    def _doubt(self) -> None:
        # The owner did not say where it runs, or its node is lost: wait for as long as Ray takes to end a process, and
        # as a process takes to notice that its node is lost.
        self._certain_from_s = time.monotonic() + _ENDED_AFTER_S

    def _gpus(self, *, to_tune: bool) -> float:
        return self._placement.num_gpus if to_tune else 0.0

    def _reach(self, key: str, node_id: str | None, gpus: float) -> ActorHandle[OwnerActor]:
        self.started += not self._records[key].replies
        owner = _OWNER.options(
            **DETACHED,
            **node_options(self._placement, node_id),
            name=self._name(key),
            num_cpus=self._placement.num_cpus,
            num_gpus=gpus,
        ).remote(self._store_ref, key)
        self._records[key].add_call(owner)
        return owner

    def _name(self, key: str) -> str:
        return owner_name(self._store_id, self._store_ref.store_uri, key)


def _reply(reference: ray.ObjectRef[ProcessLocation]) -> ProcessLocation | None:
    """The reply, or None if there is none yet or the owner could not give one."""
    try:
        location: ProcessLocation = ray.get(reference, timeout=0)
        return location
    except RayError:
        return None
