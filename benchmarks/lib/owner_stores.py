"""Stores of digits with many small clusters, and a coordinator over them in a Ray of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ray

from actors.incoming import put_rows
from actors.remote.names import NAMESPACE
from actors.remote.placement import StoreRef
from benchmarks.lib.background import wait_until
from benchmarks.lib.settings import DIGITS_CONFIG
from benchmarks.lib.synthetic_stores import (
    DigitStore,
    commits,
    digit_samples,
    row_table,
    running_coordinator,
    untrained_artifacts,
)
from cluster.runtime import coordinator_of
from lmeraser.config import OwnersConfig, load_config
from lmeraser.data import open_source
from lmeraser.state.cluster_entry import ClusterEntry
from lmeraser.state.keys import init_keys, load_hash_key
from lmeraser.state.manifest import load_manifest
from lmeraser.state.public_artifacts import create_store
from lmeraser.state.rows import RowTable
from lmeraser.store import LocalStore

# max_cluster_rows by the number of clusters that it roughly gives; the figures count the clusters.
MAX_CLUSTER_ROWS = {"8": 500, "64": 60, "512": 8, "1000": 4}
ROWS, MANY_ROWS, ADDED_ROWS = 2_000, 3_000, 40


class OwnerStores:
    """Makes stores by name; the features of all rows are extracted once."""

    def __init__(self, out: Path) -> None:
        config = load_config(DIGITS_CONFIG)
        state_config = config.state(open_source(config.private).labels)
        # Two epochs, because tuning is not what is timed here.
        self._config = replace(state_config, tuning=replace(state_config.tuning, epochs=2))
        self._out = out
        self._artifacts = untrained_artifacts(self._config, config)
        samples = digit_samples(config, MANY_ROWS + ADDED_ROWS)
        self._table = row_table(self._empty("features", 300, 16).pipeline, samples)

    def make(self, name: str, min_tuned_rows: int, rows: int = ROWS) -> DigitStore:
        """A store whose clusters hold at most the rows of its name, tuned in this process."""
        store = self._empty(name, MAX_CLUSTER_ROWS[name], min_tuned_rows)
        table = self._table.where(np.arange(len(self._table)) < rows)
        with running_coordinator(store.folder, store.pipeline, lease_s=0.0) as coordinator:
            put(coordinator.begin_ingest, lambda prefix: coordinator.ingest(prefix).result(), store, table)
            wait_until(coordinator.idle)
        return replace(store, sample_ids=table.sample_ids)

    def added_rows(self) -> RowTable:
        """Rows that no store holds."""
        return self._table.where(np.arange(len(self._table)) >= MANY_ROWS)

    def _empty(self, name: str, max_cluster_rows: int, min_tuned_rows: int) -> DigitStore:
        partition = replace(self._config.partition, max_cluster_rows=max_cluster_rows, min_tuned_rows=min_tuned_rows)
        folder = self._out / name
        shutil.rmtree(folder, ignore_errors=True)
        create_store(LocalStore(folder / "store"), replace(self._config, partition=partition), self._artifacts)
        init_keys(folder / "keys")
        return DigitStore(folder)


def put(begin: Callable[[], str], ingest: Callable[[str], object], store: DigitStore, table: RowTable) -> None:
    """Add rows, as an ingest does."""
    prefix = begin()
    hash_key = load_hash_key(store.folder / "keys")
    put_rows(LocalStore(store.folder / "store"), hash_key, f"{prefix}rows", table, seed=0)
    ingest(prefix)


@contextmanager
def coordinator_actor(store: DigitStore, cores: int, max_resident_owners: int) -> Iterator[Any]:
    """The coordinator as an actor of a Ray of its own."""
    ray.init(
        address="local",
        num_cpus=cores,
        namespace=NAMESPACE,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    uri, keys = str(store.folder / "store"), str(store.folder / "keys")
    owners = OwnersConfig(max_resident_owners=max_resident_owners)
    try:
        yield coordinator_of(StoreRef(uri, keys), load_manifest(LocalStore(Path(uri))), owners)
    finally:
        ray.shutdown()


def newest_clusters(store: DigitStore) -> Sequence[ClusterEntry]:
    """The clusters of the newest commit, the smallest first."""
    return sorted(commits(store.folder)[-1].clusters, key=lambda entry: entry.rows)


def sample_ids_of(store: DigitStore, entry: ClusterEntry) -> tuple[str, ...]:
    """The ids of a cluster's rows."""
    objects = LocalStore(store.folder / "store")
    names = (segment.rows_object for segment in entry.segments)
    return tuple(each for name in names for each in RowTable.from_parquet(objects.get(name), name).sample_ids)
