"""Reads a cluster's rows from the store, as they lie there."""

from __future__ import annotations

from lmeraser.state.commit import ClusterEntry
from lmeraser.state.rows import RowTable
from lmeraser.store import Store


def rows_of(store: Store, entry: ClusterEntry) -> RowTable:
    """All rows of a cluster."""
    names = [segment.rows_object for segment in entry.segments]
    return RowTable.concatenate([RowTable.from_parquet(store.get(name), name) for name in names], 0)


def bytes_of(store: Store, entry: ClusterEntry) -> bytes:
    """The row files of a cluster, one after the other."""
    return b"".join(store.get(segment.rows_object) for segment in entry.segments)
