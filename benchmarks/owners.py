"""Owners as Ray actors: how soon they serve, what memory they take, what a deletion waits for, how many an hour.

One store of digits for each number of clusters, small clusters so that there are many; the backbone is untrained, for
neither seconds nor bytes hang on its weights. Every figure has a Ray of its own. Memory is the proportional set size
of all processes below this one, so that pages that they share count once.

    python benchmarks/owners.py --out /tmp/owners

prints one JSON object for each figure; ``--only`` chooses some of them by name.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from memory import MIB, by_kind
from stores import Prepared, at_work, commits, rows_of, samples, wait

# The script serving.py beside this one would hide the package of the same name. The folder stays in the path all the
# same, because worker processes import this file again.
sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.append(str(Path(__file__).parent.parent / "tests" / "support"))

from meanwhile import meanwhile
from processes import descendants

from actors.coordinator_status import CoordinatorStatus
from actors.ingests import put_rows
from actors.remote.names import NAMESPACE
from actors.remote.placement import StoreRef
from cluster.demo import CONFIG
from cluster.runtime import coordinator_of, free_port
from cluster.service import start_service, stop_service
from lmeraser.config import Config, OwnersConfig, ServingConfig, load_config
from lmeraser.data import open_source
from lmeraser.deletion import Deletion, DeletionRequest
from lmeraser.learning.backbone import create_model
from lmeraser.proof.verify import verify
from lmeraser.state.keys import init_keys, load_hash_key
from lmeraser.state.manifest import load_manifest
from lmeraser.state.public_artifacts import PublicArtifacts, create_store
from lmeraser.state.public_fit import build_public
from lmeraser.state.rows import RowTable
from lmeraser.store import LocalStore

ROWS, MANY_ROWS, ADDED = 2_000, 3_000, 40
# Clusters that this gives of so many rows are counted, not asked for.
BOUNDS = {"8": 500, "64": 60, "512": 8, "1000": 4}
LONGEST_S = 1_800.0


class Stores:
    """Stores by name; the features of all rows are extracted once."""

    def __init__(self, out: Path) -> None:
        config: Config = load_config(CONFIG)
        state_config = config.state(open_source(config.private).labels)
        # Two passes, because what is timed here is not the tuning.
        self._pipeline = replace(state_config, tuning=replace(state_config.tuning, epochs=2))
        self._out = out
        torch.manual_seed(0)
        public = open_source(config.public)
        self._artifacts: PublicArtifacts = build_public(
            self._pipeline, create_model(state_config.backbone).state_dict(), public.samples(public.labels)
        )
        self._table: RowTable = rows_of(self._empty("features", 300, 16).pipeline, samples(config, MANY_ROWS + ADDED))

    def of(self, name: str, min_tuned_rows: int, rows: int = ROWS) -> Prepared:
        """A store whose clusters hold at most the bound of its name, tuned in this process."""
        store = self._empty(name, BOUNDS[name], min_tuned_rows)
        table = self._table.where(np.arange(len(self._table)) < rows)
        with at_work(store.folder, store.pipeline, lease_s=0.0) as coordinator:
            put(coordinator.begin_ingest, coordinator.ingest, store, table)
            wait(coordinator.idle)
        return replace(store, sample_ids=table.sample_ids)

    def more(self) -> RowTable:
        """Rows that no store holds."""
        return self._table.where(np.arange(len(self._table)) >= MANY_ROWS)

    def _empty(self, name: str, bound: int, min_tuned_rows: int) -> Prepared:
        partition = replace(self._pipeline.partition, max_cluster_rows=bound, min_tuned_rows=min_tuned_rows)
        folder = self._out / name
        shutil.rmtree(folder, ignore_errors=True)
        create_store(LocalStore(folder / "store"), replace(self._pipeline, partition=partition), self._artifacts)
        init_keys(folder / "keys")
        return Prepared(folder, ())


def put(begin: Callable[[], str], ingest: Callable[[str], Any], store: Prepared, table: RowTable) -> None:
    """Add rows, as an ingest does."""
    prefix = begin()
    put_rows(LocalStore(store.folder / "store"), load_hash_key(store.folder / "keys"), f"{prefix}rows", table)
    done = ingest(prefix)
    if done is not None:
        done.result()


@contextmanager
def running(store: Prepared, cores: int, most: int) -> Iterator[Any]:
    """The coordinator, as an actor of a Ray of its own."""
    ray.init(
        address="local",
        num_cpus=cores,
        namespace=NAMESPACE,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    uri, keys = str(store.folder / "store"), str(store.folder / "keys")
    try:
        yield coordinator_of(
            StoreRef(uri, keys), load_manifest(LocalStore(Path(uri))), OwnersConfig(max_resident_owners=most)
        )
    finally:
        ray.shutdown()


def until(done: Callable[[], bool], poll_s: float = 0.02) -> None:
    """Return once it is so."""
    last = time.monotonic() + LONGEST_S
    while not done():
        if time.monotonic() > last:
            raise TimeoutError("it did not come to pass")
        time.sleep(poll_s)


def status(coordinator: Any) -> CoordinatorStatus:
    """What the coordinator says."""
    said: CoordinatorStatus = ray.get(coordinator.status.remote())
    return said


def memory() -> tuple[dict[str, float], Counter[str]]:
    """MiB of the processes below this one, and how many there are, by what they are."""
    found = {kind.removeprefix("ray::"): sizes for kind, sizes in by_kind(descendants(os.getpid())).items()}
    used = {kind: round(sum(sizes) / MIB, 1) for kind, sizes in found.items()}
    return used, Counter({kind: len(sizes) for kind, sizes in found.items()})


class Watch:
    """Looks at memory and processes once a second."""

    def __init__(self) -> None:
        self.most_mib = 0.0
        self.most_owners = 0

    def until(self, left: threading.Event) -> None:
        """Look again and again."""
        while not left.wait(1.0):
            used, count = memory()
            self.most_mib = max(self.most_mib, sum(used.values()))
            self.most_owners = max(self.most_owners, count["OwnerActor"])


def serving(stores: Stores, name: str) -> dict[str, Any]:
    """From nothing but the store to a service that is ready, and until the owners ahead are there."""
    store = stores.of(name, min_tuned_rows=BOUNDS[name] + 1)
    begun = time.monotonic()
    with running(store, 2, 16) as coordinator:
        clusters = status(coordinator).clusters
        coordinator_s = time.monotonic() - begun
        start_service(
            LocalStore(store.folder / "store"), store.folder / "keys", ServingConfig(), "127.0.0.1", free_port()
        )
        ready_s = time.monotonic() - begun
        until(lambda: len(ray.get(coordinator.owner_locations.remote())) == min(16, clusters))
        owners_s = time.monotonic() - begun
        used, count = memory()
        stop_service()
    return {
        "figure": "start",
        "clusters": clusters,
        "coordinator_s": round(coordinator_s, 1),
        "service_s": round(ready_s, 1),
        "owners_ahead_s": round(owners_s, 1),
        "owners": count["OwnerActor"],
        "mib_by_kind": used,
    }


def erasing(stores: Stores, name: str, count: int) -> dict[str, Any]:
    """From accepted to erased where the owner is resident, and where it is passive; no tunings meanwhile."""
    store = stores.of(name, min_tuned_rows=BOUNDS[name] + 1)
    entries = sorted(newest(store), key=lambda entry: entry.rows)
    found: dict[str, list[float]] = {"resident": [], "passive": []}
    with running(store, 2, 16) as coordinator:
        until(lambda: len(ray.get(coordinator.owner_locations.remote())) == 16)
        for number in range(count):
            for kind in found:
                places = ray.get(coordinator.owner_locations.remote())
                chosen = [
                    entry for entry in entries if (entry.key in places) == (kind == "resident") and entry.rows > 2
                ]
                entry = chosen[-1 - number] if kind == "resident" else chosen[number]
                row = ids_of(store, entry)[number]
                done = erased(coordinator, [row])
                found[kind].append(seconds(done))
                entries = sorted(newest(store), key=lambda entry: entry.rows)
                time.sleep(0.5)
        used, processes = memory()
    return {
        "figure": "erased, no tunings",
        "clusters": len(entries),
        **{f"{kind}_s": spread(values) for kind, values in found.items()},
        "owner_mib": round(used["OwnerActor"] / processes["OwnerActor"], 1),
    }


def an_hour(stores: Stores, workers: int, count: int) -> dict[str, Any]:
    """Deletions of one row each, sent at once, until all are completed; owners tune one a worker."""
    store = stores.of("64", min_tuned_rows=8)
    seen = Watch()
    with running(store, workers, 16) as coordinator, meanwhile(seen.until):
        until(lambda: len(ray.get(coordinator.owner_locations.remote())) == 16)
        rows = random.Random(0).sample(store.sample_ids, count)
        begun = time.monotonic()
        asked = []
        for row in rows:
            asked.append(ray.get(coordinator.delete.remote(DeletionRequest((row,)))).id)
            time.sleep(0.5)
        until(lambda: status(coordinator).idle, 0.1)
        took_s = time.monotonic() - begun
        done = [ray.get(coordinator.deletion.remote(one)) for one in asked]
        tunings = status(coordinator).tunings
        used, processes = memory()
    return {
        "figure": "deletions an hour",
        "tunings_at_a_time": workers,
        "deletions": count,
        "tunings": tunings,
        "seconds": round(took_s, 1),
        "an_hour": round(count / took_s * 3600),
        "accepted_to_erased_s": spread([seconds(one) for one in done]),
        "owner_that_tuned_mib": round(used["OwnerActor"] / processes["OwnerActor"], 1),
        "most_mib": round(seen.most_mib),
    }


def many(stores: Stores) -> dict[str, Any]:
    """A thousand clusters on two cores: rows come, rows go, clusters are tuned; then the root is compared."""
    store = stores.of("1000", min_tuned_rows=4, rows=MANY_ROWS)
    seen = Watch()
    with meanwhile(seen.until):
        begun = time.monotonic()
        with running(store, 2, 16) as coordinator:
            clusters = status(coordinator).clusters
            started_s = time.monotonic() - begun
            begun = time.monotonic()
            put(
                lambda: ray.get(coordinator.begin_ingest.remote()),
                lambda prefix: ray.get(coordinator.ingest.remote(prefix)) and None,
                store,
                stores.more(),
            )
            added_s = time.monotonic() - begun
            until(lambda: status(coordinator).idle, 0.1)
            tuned_s = time.monotonic() - begun
            tunings = status(coordinator).tunings
            done = [erased(coordinator, [row]) for row in random.Random(0).sample(store.sample_ids, 30)]
            until(lambda: status(coordinator).idle, 0.1)
            after = status(coordinator).clusters
            used, _ = memory()
    equal = verify(LocalStore(store.folder / "store"), load_hash_key(store.folder / "keys")).equal
    return {
        "figure": "many clusters",
        "clusters": [clusters, after],
        "started_s": round(started_s, 1),
        "rows_added": len(stores.more()),
        "added_s": round(added_s, 1),
        "added_and_tuned_s": round(tuned_s, 1),
        "tunings": tunings,
        "accepted_to_erased_s": spread([seconds(one) for one in done]),
        "most_owner_processes": seen.most_owners,
        "most_mib": round(seen.most_mib),
        "mib_by_kind_at_the_end": used,
        "root_equal": equal,
    }


def newest(store: Prepared) -> Sequence[Any]:
    """The clusters of the newest commit."""
    return commits(store.folder)[-1].clusters


def ids_of(store: Prepared, entry: Any) -> tuple[str, ...]:
    """The ids of a cluster's rows."""
    name = entry.rows_object
    return RowTable.from_parquet(LocalStore(store.folder / "store").get(name), name).sample_ids


def erased(coordinator: Any, rows: Sequence[str]) -> Deletion:
    """A deletion, once its rows are erased."""
    asked = ray.get(coordinator.delete.remote(DeletionRequest(tuple(rows)))).id
    until(lambda: ray.get(coordinator.deletion.remote(asked)).erased_at is not None)
    done: Deletion = ray.get(coordinator.deletion.remote(asked))
    return done


def seconds(deletion: Deletion) -> float:
    """From accepted to erased."""
    assert deletion.erased_at is not None
    return (datetime.fromisoformat(deletion.erased_at) - datetime.fromisoformat(deletion.accepted_at)).total_seconds()


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, largest, number."""
    return {"median": round(statistics.median(values), 2), "max": round(max(values), 2), "n": len(values)}


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the stores; made anew")
    names = ("start-8", "start-64", "start-512", "erasing", "hour-1", "hour-2", "hour-4", "many")
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    arguments = parser.parse_args()
    stores = Stores(arguments.out)
    figures: dict[str, Callable[[], dict[str, Any]]] = {
        **{f"start-{name}": lambda name=name: serving(stores, name) for name in ("8", "64", "512")},
        "erasing": lambda: erasing(stores, "64", 5),
        **{f"hour-{workers}": lambda workers=workers: an_hour(stores, workers, 20) for workers in (1, 2, 4)},
        "many": lambda: many(stores),
    }
    for name in arguments.only:
        machine = {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
        print(json.dumps({**figures[name](), **machine, "date": datetime.now().date().isoformat()}), flush=True)


if __name__ == "__main__":
    main()
