"""Finds objects of a commit that are missing or damaged, and rebuilds them from the rows (decision 8).

Rows themselves cannot be rebuilt: damage to them is an error that says what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from lmeraser.errors import ObjectCorruptError, ObjectMissingError
from lmeraser.hashing import HashKey
from lmeraser.learning.heads import Statistics
from lmeraser.learning.numerics import deterministic
from lmeraser.state.cluster_entry import ClusterEntry, Segment, all_embedded
from lmeraser.state.commit import Commit
from lmeraser.state.heads_state import HeadsState
from lmeraser.state.layout import index_object
from lmeraser.state.manifest import Manifest
from lmeraser.state.rows import RowTable
from lmeraser.state.segment import SegmentIndex
from lmeraser.state.specialist import FeaturesOfRows
from lmeraser.state.stored_objects import read_heads, read_index, read_prompt, read_prompted, read_segment
from lmeraser.store import Store

T = TypeVar("T")


@dataclass(frozen=True)
class Inspection:
    """What of a commit is sound.

    Attributes:
        clusters: the commit's entries, without the prompts and prompted features that are damaged.
        prompted: the sound prompted features.
        heads: the heads; None if they are damaged.
        damaged: one message per damaged object.
    """

    clusters: tuple[ClusterEntry, ...]
    prompted: tuple[FeaturesOfRows, ...]
    heads: HeadsState | None
    damaged: tuple[str, ...]


def inspect(store: Store, manifest: Manifest, hash_key: HashKey, commit: Commit) -> Inspection:
    """Read everything but rows, and compare it with its digests; damaged indexes of segments are written again."""
    inspector = _Inspector(store, manifest.config.seed, hash_key)
    clusters = tuple(map(inspector.cluster, commit.clusters))
    heads = inspector.sound(lambda: read_heads(store, hash_key, commit))
    return Inspection(clusters, tuple(inspector.prompted), heads, tuple(inspector.damaged))


class _Inspector:
    def __init__(self, store: Store, seed: int, hash_key: HashKey) -> None:
        self._store = store
        self._seed = seed
        self._hash_key = hash_key
        self.prompted: list[FeaturesOfRows] = []
        self.damaged: list[str] = []

    def sound(self, read: Callable[[], T]) -> T | None:
        """What is read; None, with a message in ``damaged``, where it is missing or damaged."""
        try:
            return read()
        except (ObjectCorruptError, ObjectMissingError) as error:
            self.damaged.append(str(error))
            return None

    def cluster(self, entry: ClusterEntry) -> ClusterEntry:
        """The cluster without what is damaged."""
        indexes = [self._index(entry, segment) for segment in entry.segments]
        if entry.prompt_object is None:
            return entry
        if self.sound(lambda: read_prompt(self._store, self._hash_key, entry)) is None:
            return entry.without_prompt()
        segments = tuple(map(partial(self._segment, entry), entry.segments, indexes))
        return replace(entry, segments=segments, prompted_leaf=entry.prompted_leaf if all_embedded(segments) else None)

    def _segment(self, entry: ClusterEntry, segment: Segment, index: SegmentIndex) -> Segment:
        if segment.prompted_object is None:
            return segment
        prompted = self.sound(lambda: read_prompted(self._store, self._hash_key, entry.key, segment))
        if prompted is None:
            return segment.without_features()
        self.prompted.append(FeaturesOfRows(prompted.features_NH, index.labels_N))
        return segment

    def _index(self, entry: ClusterEntry, segment: Segment) -> SegmentIndex:
        """The index of a segment; a damaged one is written again, under the same name: it follows from the rows."""
        index = self.sound(lambda: read_index(self._store, self._hash_key, entry.key, segment))
        if index is None:
            table = read_segment(self._store, self._hash_key, self._seed, entry.key, segment)
            index = SegmentIndex.of(table, self._seed, self._hash_key)
            self._store.put(index_object(segment.rows_object), index.to_safetensors())
        return index


def heads_of(tables: Sequence[RowTable], prompted: Sequence[FeaturesOfRows], head_dim: int, classes: int) -> HeadsState:
    """The heads over all rows and these prompted features, summed from scratch."""
    zero = Statistics.zero(head_dim, classes)
    with deterministic():
        return HeadsState.of(Statistics.of_all(tables, zero), Statistics.of_all(prompted, zero))
