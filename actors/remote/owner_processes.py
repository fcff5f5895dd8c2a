"""An owner in a process of its own: a named, detached actor that is rebuilt from the store after a crash.

``OwnerProcesses`` starts them, and ends them so that they are known to be gone.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.owner import Owner, RowsJob, TuningJob, WrittenObject
from actors.remote.names import owner_name
from actors.remote.nodes import ACCELERATOR_LABEL, Placement
from actors.remote.process import ProcessLocation, await_end
from lmeraser.state.keys import load_hash_key
from lmeraser.state.manifest import load_manifest
from lmeraser.store import open_store

if TYPE_CHECKING:
    from lmeraser.state.pipeline import Pipeline

NAMESPACE = "lmeraser"
_ANSWERS_WITHIN_S = 2.0
_ENDED_AFTER_S = 6.0


@dataclass(frozen=True)
class StoreRef:
    """Where an actor finds its store and its keys. Ray persists it, so it holds neither rows nor secrets."""

    store_uri: str
    keys_folder: str


class OwnerActor:
    """An owner in its own process."""

    def __init__(self, site: StoreRef, key: str) -> None:
        store = open_store(site.store_uri)
        manifest = load_manifest(store)

        @functools.cache
        def pipeline() -> Pipeline:
            from lmeraser.state.pipeline_loading import load_pipeline

            return load_pipeline(store, manifest)

        self._owner = Owner(store, manifest, load_hash_key(Path(site.keys_folder)), key, pipeline)

    @ray.method(concurrency_group="control")
    def place(self) -> ProcessLocation:
        """Where this process runs."""
        return ProcessLocation.here()

    @ray.method(concurrency_group="control")
    def write_rows(self, job: RowsJob) -> WrittenObject:
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
    def tune(self, job: TuningJob) -> WrittenObject:
        """See Owner.tune."""
        return self._owner.tune(job)


class OwnerProcesses:
    """The processes of one store's owners."""

    def __init__(self, site: StoreRef, store_id: str, placement: Placement) -> None:
        self._site = site
        self._store_id = store_id
        self._placement = placement
        # All places of an owner: where its node is gone and Ray has restarted it, the process before may live on.
        self._asked: dict[str, list[ray.ObjectRef[ProcessLocation]]] = {}
        self._never_worked: set[str] = set()
        self._ended: list[ProcessLocation] = []
        self._certain_from_s = 0.0

    def named(self) -> set[str]:
        """Keys of all owners that there are, whoever started them."""
        prefix = self._name("")
        named = ray.util.list_named_actors(all_namespaces=True)
        return {actor["name"].removeprefix(prefix) for actor in named if actor["name"].startswith(prefix)}

    def start(self, key: str, node_id: str | None) -> ray.ObjectRef[ProcessLocation]:
        """Start an owner ahead of its first call, preferably on this node; the reference is ready when it is there."""
        if key not in self._asked:
            self._never_worked.add(key)
        self._reach(key, node_id, gpus=0.0)
        return self._asked[key][-1]

    def to_call(self, key: str, node_id: str | None, *, to_tune: bool) -> ActorHandle[OwnerActor]:
        """The owner, to be called; it is started where it has no process, preferably on this node.

        Args:
            key: its cluster.
            node_id: the node.
            to_tune: whether one that is started gets its part of a GPU.
        """
        self._never_worked.discard(key)
        return self._reach(key, node_id, gpus=self._placement.num_gpus if to_tune else 0.0)

    def place(self, key: str) -> ProcessLocation | None:
        """Where an owner runs, as far as it has said so."""
        asked = self._asked.get(key)
        return _answer(asked[-1]) if asked else None

    def kill(self, keys: Collection[str]) -> None:
        """End owners; after :meth:`settle` it is certain that they are gone."""
        owners: dict[str, ActorHandle[OwnerActor]] = {}
        for key in keys:
            with suppress(ValueError):
                owners[key] = ray.get_actor(self._name(key), namespace=NAMESPACE)
        asked = {key: self._asked.pop(key, []) for key in keys}
        for key in asked.keys() & owners.keys() - self._never_worked:
            if not asked[key] or _answer(asked[key][-1]) is None:
                asked[key].append(owners[key].place.remote())
        at_work = [key for key in keys if key not in self._never_worked and asked[key]]
        refs = [ref for key in at_work for ref in asked[key]]
        if refs:
            ray.wait(refs, num_returns=len(refs), timeout=_ANSWERS_WITHIN_S)
        for key in at_work:
            places = [_answer(ref) for ref in asked[key]]
            self._ended += {place for place in places if place is not None}
            if places[-1] is None:
                self._doubt()
        for owner in owners.values():
            ray.kill(owner)
        self._never_worked.difference_update(keys)

    def settle(self) -> None:
        """Return once every owner that was ended is certain to be gone.

        Raises:
            StoreError: when one outlives its end, so that nothing may count as erased yet.
        """
        while self._ended:
            if not await_end(self._ended[-1]):
                self._doubt()
            self._ended.pop()
        time.sleep(max(0.0, self._certain_from_s - time.monotonic()))

    def _doubt(self) -> None:
        # It did not say where it is, or its node is gone: wait for as long as Ray takes to end a process, and a
        # process to see that its node is gone.
        self._certain_from_s = time.monotonic() + _ENDED_AFTER_S

    def _reach(self, key: str, node_id: str | None, gpus: float) -> ActorHandle[OwnerActor]:
        owner = _OWNER.options(
            **DETACHED,
            **where(self._placement, node_id),
            name=self._name(key),
            num_cpus=self._placement.num_cpus,
            num_gpus=gpus,
        ).remote(self._site, key)
        # Asked again each time, because Ray may have restarted it elsewhere.
        asked = self._asked.setdefault(key, [])
        if len(asked) > 1 and None is not _answer(asked[-1]) == _answer(asked[-2]):
            asked.pop()
        asked.append(owner.place.remote())
        return owner

    def _name(self, key: str) -> str:
        return owner_name(self._store_id, self._site.store_uri, key)


def _answer(asked: ray.ObjectRef[ProcessLocation]) -> ProcessLocation | None:
    try:
        place: ProcessLocation = ray.get(asked, timeout=0)
        return place
    except RayError:
        return None


def where(placement: Placement, node_id: str | None = None) -> Mapping[str, Any]:
    """Actor options: the kind of node that computes state, and the node that is preferred."""
    options: dict[str, Any] = {}
    if placement.accelerator:
        options["label_selector"] = {ACCELERATOR_LABEL: placement.accelerator}
    if node_id is not None:
        # Soft: where the node is gone, Ray starts it elsewhere.
        options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node_id, soft=True)
    return options


# Mutations are never repeated by Ray (max_task_retries 0): the caller decides, and every call is idempotent.
_OWNER = ray.remote(concurrency_groups={"control": 4, "work": 1}, max_task_retries=0)(OwnerActor)
DETACHED: dict[str, Any] = {
    "namespace": NAMESPACE,
    "lifetime": "detached",
    "get_if_exists": True,
    "max_restarts": -1,
}
