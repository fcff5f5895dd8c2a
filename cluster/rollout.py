"""Rolling out new code: detached actors keep the code that they were started with."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from actors.coordinator_status import CoordinatorStatus
from actors.remote.placement import StoreRef
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
        owners: how many owners had a process.
        service: whether a service ran.
        term: that of the new coordinator.
        state_root: unchanged by the rollout; None if the store holds no rows.
    """

    owners: int
    service: bool
    term: int
    state_root: str | None


def roll(site: StoreRef, config: Config, report: Progress) -> RolloutResult:
    """Replace the service's replicas, then the owners, once they are idle, and the coordinator.

    All run the code of this process from then on. Each replica ends after its successor is ready, so predictions are
    answered throughout. Deletions are accepted and erased, except in the moment between the two coordinators; tunings
    wait.

    Args:
        site: the store and its keys.
        config: how owners are placed and predictions answered from now on.
        report: called with what is being done, how much of it is done, and how much there is.

    Raises:
        NotReadyError: when no coordinator runs, or no node has room for a new replica next to the old ones. Nothing
            was ended then.
    """
    store = open_store(site.store_uri)
    manifest = load_manifest(store)
    before = running_coordinator(manifest.store_id, site.store_uri)
    if before is None:
        raise NotReadyError(f"no coordinator of {site.store_uri} runs on this Ray cluster: there is nothing to replace")
    check_room(store, config.serving)
    # First, because what supervises the coordinator would start one again with the old configuration.
    service = replace_service(store, Path(site.keys_folder), config.serving, config.owners)
    report("service", 1, 1)
    owners = _drain(before, report)
    location = ray.get(before.location.remote())
    ray.kill(before)
    await_end(location)
    after = coordinator_of(site, manifest, config.owners, config.deletions)
    status: CoordinatorStatus = ray.get(after.status.remote())
    report("coordinator", 1, 1)
    return RolloutResult(owners, service, status.term, status.state_root)


def _drain(coordinator: Any, report: Progress) -> int:
    """Wait until no owner has a process; returns how many there were."""
    ray.get(coordinator.drain.remote())
    most = 0
    while True:
        status, locations = ray.get([coordinator.status.remote(), coordinator.owner_locations.remote()])
        most = max(most, len(locations))
        report("owners", most - len(locations), most)
        if not locations and not status.running:
            return most
        time.sleep(_POLL_S)
