"""Rolling new code out: detached actors keep the code that they were started with."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from actors.remote.owner_processes import StoreRef
from actors.remote.process import await_end
from cluster.runtime import coordinator_of, running_coordinator
from cluster.service import check_room, replace_service
from lmeraser.config import Config
from lmeraser.errors import NotReadyError
from lmeraser.progress import Progress
from lmeraser.state.manifest import load_manifest
from lmeraser.store import open_store

_POLL_S = 0.1


@dataclass(frozen=True)
class RolloutResult:
    """What was replaced.

    Attributes:
        owners: owners that had a process.
        service: whether a service ran.
        term: the new coordinator's.
        state_root: the same as before.
    """

    owners: int
    service: bool
    term: int
    state_root: str | None


def roll(site: StoreRef, config: Config, report: Progress) -> RolloutResult:
    """End the owners once they are idle, then the coordinator, and start both with the code of this process.

    Then the service's replicas are replaced, each new one before an old one ends. Predictions are answered all the
    while. Deletions are accepted and erased, but for the moment between the coordinators; tunings wait.

    Args:
        site: where the store lies.
        config: how owners are placed and predictions answered from now on.
        report: called with what is being done, how much of it is done, and how much there is.

    Raises:
        NotReadyError: when no coordinator runs, or a new replica finds no room beside the old ones. Nothing was ended.
    """
    store = open_store(site.store_uri)
    manifest = load_manifest(store)
    before = running_coordinator(manifest.store_id, site.store_uri)
    if before is None:
        raise NotReadyError(f"no coordinator of {site.store_uri} runs on this Ray cluster: there is nothing to roll")
    check_room(store, config.serving)
    owners = _drain(before, report)
    place = ray.get(before.place.remote())
    ray.kill(before)
    await_end(place)
    after = coordinator_of(site, manifest, config.owners)
    status: dict[str, Any] = ray.get(after.status.remote())
    report("coordinator", 1, 1)
    service = replace_service(store, Path(site.keys_folder), config.serving)
    report("service", 1, 1)
    return RolloutResult(owners, service, status["term"], status["state_root"])


def _drain(coordinator: Any, report: Progress) -> int:
    """Return once no owner has a process; how many there were."""
    ray.get(coordinator.drain.remote())
    most = 0
    while True:
        status, places = ray.get([coordinator.status.remote(), coordinator.owner_places.remote()])
        most = max(most, len(places))
        report("owners", most - len(places), most)
        if not places and not status["running"]:
            return most
        time.sleep(_POLL_S)
