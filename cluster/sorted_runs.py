"""Rows on their way into the store, sorted by their position in the dendrogram.

A cluster's owner reads every row object that holds one of its rows. With rows in the order of a file, every owner would
read nearly every object; with runs of rows that are sorted along the dendrogram, it reads a few objects of each run.

Legend: N rows, A anchors.
"""

from __future__ import annotations

import numpy as np

from actors.incoming import put_rows, put_sums
from lmeraser.config import StateConfig
from lmeraser.hashing import HashKey
from lmeraser.learning.partition import Dendrogram
from lmeraser.state.rows import RowTable
from lmeraser.store import Store

_RUN_ROWS = 8192
_RUN_BYTES = 64 << 20
_OBJECT_ROWS = 256


class SortedRuns:
    """Holds up to 8192 rows, or 64 MiB of images and features, and writes them in objects of 256 rows."""

    def __init__(
        self, store: Store, hash_key: HashKey, config: StateConfig, prefix: str, dendrogram: Dendrogram
    ) -> None:
        self._store = store
        self._hash_key = hash_key
        self._config = config
        self._prefix = prefix
        self._order_A = np.empty(dendrogram.anchors, np.int64)
        self._order_A[dendrogram.in_order()] = np.arange(dendrogram.anchors)
        self._tables: list[RowTable] = []
        self._runs = 0

    def add(self, table: RowTable) -> None:
        """Add rows; a full run is written."""
        self._tables.append(table)
        rows = sum(map(len, self._tables))
        size = sum(sum(map(len, each.images)) + each.features_NH.nbytes for each in self._tables)
        if rows >= _RUN_ROWS or size >= _RUN_BYTES:
            self.write()

    def write(self) -> None:
        """Write the rows that were added since the last run, and the sums over them."""
        run = RowTable.concatenate(self._tables, head_dim=0)
        if not len(run):
            return
        name = f"{self._prefix}{self._runs:06d}"
        # Before the rows: whoever finds these without the sums would add up the features again.
        put_sums(self._store, name, run, len(self._config.labels))
        rank_N = np.empty(len(run), np.int64)
        rank_N[np.argsort(self._order_A[run.anchors_N], kind="stable")] = np.arange(len(run))
        for start in range(0, len(run), _OBJECT_ROWS):
            part = run.where((rank_N >= start) & (rank_N < start + _OBJECT_ROWS))
            rows_object = f"{name}-{start // _OBJECT_ROWS:04d}"
            put_rows(self._store, self._hash_key, rows_object, part, seed=self._config.seed)
        self._tables.clear()
        self._runs += 1
