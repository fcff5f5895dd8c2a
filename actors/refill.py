"""Filling a draft with the rows of the live generation: what is missing, and how it is written (design 7)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from actors.incoming import put_rows
from lmeraser.errors import ObjectMissingError
from lmeraser.hashing import HashKey
from lmeraser.state.checkpoint import CommitReader
from lmeraser.state.cluster_entry import Segment
from lmeraser.state.draft_rows import DraftRows
from lmeraser.state.hash_arrays import as_strings
from lmeraser.state.manifest import draft_of, load_manifest
from lmeraser.state.stored_objects import read_index, read_segment
from lmeraser.store import Store

# So many rows are committed together: a fill that is killed goes on from there, and a deletion may wait for one commit.
BATCH_ROWS = 2048


@dataclass(frozen=True)
class LiveSegment:
    """A segment of the live generation, and the cluster that it belongs to."""

    key: str
    segment: Segment


def draft_samples(store: Store, hash_key: HashKey, generation: str) -> np.ndarray:
    """Keyed hashes of the samples that the draft has, as sorted strings [M]."""
    draft = draft_of(store, generation)
    commit = CommitReader(draft).advance()
    entries = commit.clusters if commit is not None else ()
    indexes = (read_index(draft, hash_key, entry.key, segment) for entry in entries for segment in entry.segments)
    parts = [np.zeros((0, 32), np.uint8), *(index.samples_N32 for index in indexes)]
    return np.sort(as_strings(np.concatenate(parts)))


def live_labels(store: Store, hash_key: HashKey) -> set[int]:
    """Positions of the labels that rows of the newest live commit have."""
    batches = live_batches(store)
    indexes = (read_index(store, hash_key, each.key, each.segment) for batch in batches for each in batch)
    return {int(label) for index in indexes for label in np.unique(index.labels_N)}


def live_batches(store: Store) -> Iterator[list[LiveSegment]]:
    """The segments of the newest live commit, in batches of about BATCH_ROWS rows."""
    commit = CommitReader(store).advance()
    batch: list[LiveSegment] = []
    for entry in commit.clusters if commit is not None else ():
        for segment in entry.segments:
            batch.append(LiveSegment(entry.key, segment))
            if sum(each.segment.rows for each in batch) >= BATCH_ROWS:
                yield batch
                batch = []
    if batch:
        yield batch


def put_missing(
    store: Store,
    hash_key: HashKey,
    generation: str,
    rows: DraftRows,
    have_M: np.ndarray,
    prefix: str,
    segments: Iterable[LiveSegment],
) -> int:
    """Write those rows of live segments that the draft does not have below a prefix of the draft.

    A segment that a change of the live generation has removed meanwhile is left for the next round.

    Args:
        store: the store.
        hash_key: the store's.
        generation: of the draft.
        rows: turns rows into those of the draft.
        have_M: from :func:`draft_samples`.
        prefix: from Rebuilds.begin_fill.
        segments: whose rows are to be written.

    Returns:
        How many rows were written.
    """
    draft = draft_of(store, generation)
    seed = load_manifest(draft).config.seed
    written = 0
    for each in segments:
        try:
            missing_N = ~np.isin(as_strings(read_index(store, hash_key, each.key, each.segment).samples_N32), have_M)
            if missing_N.any():
                table = read_segment(store, hash_key, each.key, each.segment).where(missing_N)
                name = each.segment.rows_object.replace("/", "-").removesuffix(".parquet")
                put_rows(draft, hash_key, f"{prefix}{name}", rows.of(table), seed=seed)
        except ObjectMissingError:
            continue
        written += int(missing_N.sum())
    return written
