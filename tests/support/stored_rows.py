"""Reads a cluster's rows, prompt and prompted features from the store, as they lie there."""

from __future__ import annotations

import numpy as np

from lmeraser.state.cluster_entry import ClusterEntry
from lmeraser.state.rows import RowTable
from lmeraser.state.specialist import Prompt, PromptedFeatures, Specialist
from lmeraser.store import Store


def rows_of(store: Store, entry: ClusterEntry) -> RowTable:
    """All rows of a cluster."""
    return RowTable.concatenate(_tables(store, entry), 0)


def bytes_of(store: Store, entry: ClusterEntry) -> bytes:
    """The row files of a cluster, one after the other."""
    return b"".join(store.get(segment.rows_object) for segment in entry.segments)


def prompt_of(store: Store, entry: ClusterEntry) -> np.ndarray:
    """The prompt of a cluster that has one."""
    assert entry.prompt_object is not None
    return Prompt.from_safetensors(store.get(entry.prompt_object), entry.prompt_object).values


def specialist_of(store: Store, entry: ClusterEntry) -> Specialist:
    """The specialist of a tuned cluster."""
    names = [segment.prompted_object for segment in entry.segments if segment.prompted_object is not None]
    features_NH = np.concatenate(
        [PromptedFeatures.from_safetensors(store.get(name), name).features_NH for name in names]
    )
    stored_ids = [name for table in _tables(store, entry) for name in table.sample_ids]
    order = np.argsort(np.array(stored_ids, object))
    return Specialist(prompt_of(store, entry), features_NH[order], rows_of(store, entry).labels_N)


def _tables(store: Store, entry: ClusterEntry) -> list[RowTable]:
    names = [segment.rows_object for segment in entry.segments]
    return [RowTable.from_parquet(store.get(name), name) for name in names]
