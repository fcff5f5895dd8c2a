"""Owners as Ray actors: how soon they serve, what memory they take, how long a deletion waits, how many run per hour.

One store of digits for each number of clusters, small clusters so that there are many; the backbone is untrained, for
neither seconds nor bytes depend on its weights. Every figure has a Ray of its own. Memory is the proportional set size
of all descendants of this process, so that pages that they share count once.

    python -m benchmarks.bench_owners --out /tmp/owners

prints one JSON object for each figure; ``--only`` chooses some of them by name.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ray

from actors.coordinator_status import CoordinatorStatus
from benchmarks.lib.background import meanwhile, wait_until
from benchmarks.lib.durations import seconds_between
from benchmarks.lib.harness import machine
from benchmarks.lib.owner_stores import (
    MANY_ROWS,
    MAX_CLUSTER_ROWS,
    OwnerStores,
    coordinator_actor,
    newest_clusters,
    put,
    sample_ids_of,
)
from benchmarks.lib.process_memory import MIB, bytes_by_kind, descendants
from cluster.runtime import free_port
from cluster.service import start_service, stop_service
from lmeraser.config import ServingConfig
from lmeraser.deletion import Deletion, DeletionRequest
from lmeraser.proof.verify import verify
from lmeraser.state.keys import load_hash_key
from lmeraser.store import LocalStore

# What Ray calls the process of an owner.
_OWNER = "OwnerActor"
_RESIDENT_OWNERS = 16
_TIMEOUT_S = 1_800.0
# Between deletions, so that each is done before the next.
_PAUSE_S = 0.5

wait_long = partial(wait_until, timeout_s=_TIMEOUT_S)


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the stores; replaced if it exists")
    parser.add_argument("--only", nargs="+", choices=list(FIGURES), default=list(FIGURES))
    arguments = parser.parse_args()
    stores = OwnerStores(arguments.out)
    for name in arguments.only:
        before = machine()
        print(json.dumps({**FIGURES[name](stores), **before}), flush=True)


def start(stores: OwnerStores, name: str) -> dict[str, Any]:
    """Seconds from the store alone to a ready service, and until the owners that are started ahead run."""
    store = stores.make(name, min_tuned_rows=MAX_CLUSTER_ROWS[name] + 1)
    begun = time.monotonic()
    with coordinator_actor(store, 2, _RESIDENT_OWNERS) as coordinator:
        clusters = status(coordinator).clusters
        coordinator_s = time.monotonic() - begun
        start_service(
            LocalStore(store.folder / "store"), store.folder / "keys", ServingConfig(), "127.0.0.1", free_port()
        )
        service_s = time.monotonic() - begun
        wait_for_owners(coordinator, min(_RESIDENT_OWNERS, clusters))
        owners_s = time.monotonic() - begun
        mib, processes = memory()
        stop_service()
    return {
        "figure": "start",
        "clusters": clusters,
        "coordinator_s": round(coordinator_s, 1),
        "service_s": round(service_s, 1),
        "owners_ahead_s": round(owners_s, 1),
        "owners": processes[_OWNER],
        "mib_by_kind": mib,
    }


def erase(stores: OwnerStores, name: str, count: int) -> dict[str, Any]:
    """From accepted to erased where the owner is resident, and where it is passive; no tunings meanwhile."""
    store = stores.make(name, min_tuned_rows=MAX_CLUSTER_ROWS[name] + 1)
    seconds: dict[str, list[float]] = {"resident": [], "passive": []}
    with coordinator_actor(store, 2, _RESIDENT_OWNERS) as coordinator:
        wait_for_owners(coordinator, _RESIDENT_OWNERS)
        for number in range(count):
            for kind, durations_s in seconds.items():
                resident = ray.get(coordinator.owner_locations.remote())
                candidates = [
                    entry
                    for entry in newest_clusters(store)
                    if (entry.key in resident) == (kind == "resident") and entry.rows > 2
                ]
                entry = candidates[-1 - number] if kind == "resident" else candidates[number]
                durations_s.append(delete_one(coordinator, sample_ids_of(store, entry)[number]))
                time.sleep(_PAUSE_S)
        clusters = len(newest_clusters(store))
        mib, processes = memory()
    return {
        "figure": "erased, no tunings",
        "clusters": clusters,
        **{f"{kind}_s": spread(durations_s) for kind, durations_s in seconds.items()},
        "owner_mib": round(mib[_OWNER] / processes[_OWNER], 1),
    }


def deletions_per_hour(stores: OwnerStores, workers: int, count: int) -> dict[str, Any]:
    """Deletions of one row each, sent at once, until all are completed; one owner tunes per worker."""
    store = stores.make("64", min_tuned_rows=8)
    peak = Peak()
    with coordinator_actor(store, workers, _RESIDENT_OWNERS) as coordinator, meanwhile(peak.watch):
        wait_for_owners(coordinator, _RESIDENT_OWNERS)
        begun = time.monotonic()
        ids = []
        for sample_id in random.Random(0).sample(store.sample_ids, count):
            ids.append(ray.get(coordinator.delete.remote(DeletionRequest((sample_id,)))).id)
            time.sleep(_PAUSE_S)
        wait_long(lambda: status(coordinator).idle, 0.1)
        duration_s = time.monotonic() - begun
        deletions = [ray.get(coordinator.deletion.remote(deletion_id)) for deletion_id in ids]
        tunings = status(coordinator).tunings
        mib, processes = memory()
    return {
        "figure": "deletions an hour",
        "tunings_at_a_time": workers,
        "deletions": count,
        "tunings": tunings,
        "seconds": round(duration_s, 1),
        "an_hour": round(count / duration_s * 3600),
        "accepted_to_erased_s": spread([erased_after_s(deletion) for deletion in deletions]),
        "owner_that_tuned_mib": round(mib[_OWNER] / processes[_OWNER], 1),
        "most_mib": round(peak.mib),
    }


def many_clusters(stores: OwnerStores) -> dict[str, Any]:
    """A thousand clusters on two cores: add rows, delete rows, tune clusters; then compare the root."""
    store = stores.make("1000", min_tuned_rows=4, rows=MANY_ROWS)
    peak = Peak()
    with meanwhile(peak.watch):
        begun = time.monotonic()
        with coordinator_actor(store, 2, _RESIDENT_OWNERS) as coordinator:
            clusters = status(coordinator).clusters
            started_s = time.monotonic() - begun
            begun = time.monotonic()
            put(
                lambda: ray.get(coordinator.begin_ingest.remote()),
                lambda prefix: ray.get(coordinator.ingest.remote(prefix)),
                store,
                stores.added_rows(),
            )
            added_s = time.monotonic() - begun
            wait_long(lambda: status(coordinator).idle, 0.1)
            tuned_s = time.monotonic() - begun
            tunings = status(coordinator).tunings
            durations_s = [
                delete_one(coordinator, sample_id) for sample_id in random.Random(0).sample(store.sample_ids, 30)
            ]
            wait_long(lambda: status(coordinator).idle, 0.1)
            clusters_afterwards = status(coordinator).clusters
            mib, _ = memory()
    equal = verify(LocalStore(store.folder / "store"), load_hash_key(store.folder / "keys")).equal
    return {
        "figure": "many clusters",
        "clusters": [clusters, clusters_afterwards],
        "started_s": round(started_s, 1),
        "rows_added": len(stores.added_rows()),
        "added_s": round(added_s, 1),
        "added_and_tuned_s": round(tuned_s, 1),
        "tunings": tunings,
        "accepted_to_erased_s": spread(durations_s),
        "most_owner_processes": peak.owners,
        "most_mib": round(peak.mib),
        "mib_by_kind_at_the_end": mib,
        "root_equal": equal,
    }


FIGURES: dict[str, Callable[[OwnerStores], dict[str, Any]]] = {
    **{f"start-{name}": partial(start, name=name) for name in ("8", "64", "512")},
    "erasing": partial(erase, name="64", count=5),
    **{f"hour-{workers}": partial(deletions_per_hour, workers=workers, count=20) for workers in (1, 2, 4)},
    "many": many_clusters,
}


class Peak:
    """Most memory, and most owner processes, of all samples; one per second."""

    def __init__(self) -> None:
        self.mib = 0.0
        self.owners = 0

    def watch(self, ended: threading.Event) -> None:
        """Sample until the event."""
        while not ended.wait(1.0):
            mib, processes = memory()
            self.mib = max(self.mib, sum(mib.values()))
            self.owners = max(self.owners, processes[_OWNER])


def memory() -> tuple[dict[str, float], Counter[str]]:
    """MiB of the descendants of this process, and their number, by kind."""
    by_kind = {kind.removeprefix("ray::"): sizes for kind, sizes in bytes_by_kind(descendants(os.getpid())).items()}
    mib = {kind: round(sum(sizes) / MIB, 1) for kind, sizes in by_kind.items()}
    return mib, Counter({kind: len(sizes) for kind, sizes in by_kind.items()})


def status(coordinator: Any) -> CoordinatorStatus:
    """The coordinator's status."""
    answer: CoordinatorStatus = ray.get(coordinator.status.remote())
    return answer


def wait_for_owners(coordinator: Any, count: int) -> None:
    """Return once this number of owners is resident."""
    wait_long(lambda: len(ray.get(coordinator.owner_locations.remote())) == count)


def delete_one(coordinator: Any, sample_id: str) -> float:
    """Delete a row, and give the seconds from accepted to erased."""
    deletion_id = ray.get(coordinator.delete.remote(DeletionRequest((sample_id,)))).id
    wait_long(lambda: ray.get(coordinator.deletion.remote(deletion_id)).erased_at is not None)
    return erased_after_s(ray.get(coordinator.deletion.remote(deletion_id)))


def erased_after_s(deletion: Deletion) -> float:
    """Seconds from accepted to erased."""
    return seconds_between(deletion.accepted_at, deletion.erased_at)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, largest, number."""
    return {"median": round(statistics.median(values), 2), "max": round(max(values), 2), "n": len(values)}


if __name__ == "__main__":
    main()
