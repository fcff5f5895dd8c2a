"""Finds objects of a commit that are missing or damaged, and rebuilds them from the rows (decision 8).

Rows themselves cannot be rebuilt: damage to them is an error that says what to do.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
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
from lmeraser.state.manifest import Manifest, load_part
from lmeraser.state.segment import SegmentIndex
from lmeraser.state.specialist import FeaturesOfRows
from lmeraser.state.stored_objects import read_heads_state, read_index, read_prompt, read_prompted, read_segment
from lmeraser.store import Store

T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inspection:
    """What of a commit is sound.

    Attributes:
        clusters: the commit's entries, without the prompts and prompted features that are damaged.
        indexes: the index of each segment.
        heads: the heads; where something is damaged, solved again from the rows and what is sound.
        damaged: one message per damaged object.
    """

    clusters: tuple[ClusterEntry, ...]
    indexes: tuple[SegmentIndex, ...]
    heads: HeadsState
    damaged: tuple[str, ...]


def inspect(store: Store, manifest: Manifest, hash_key: HashKey, commit: Commit) -> Inspection:
    """Read everything that a commit names, and compare it with its digests; damaged indexes are written again.

    Raises:
        ObjectMissingError, ObjectCorruptError: when rows are missing or damaged.
    """
    inspector = _Inspector(store, manifest, hash_key)
    clusters = tuple(map(inspector.cluster, commit.clusters))
    heads = inspector.sound(lambda: read_heads_state(store, hash_key, commit))
    for reason in inspector.damaged:
        _log.error("%s; it is rebuilt from the rows", reason)
    if inspector.damaged or heads is None:
        with deterministic():
            heads = HeadsState.of(inspector.shared, inspector.pooled)
    return Inspection(clusters, tuple(inspector.indexes), heads, tuple(inspector.damaged))


class _Inspector:
    """Reads cluster after cluster, and sums up what is sound."""

    def __init__(self, store: Store, manifest: Manifest, hash_key: HashKey) -> None:
        self._store = store
        self._seed = manifest.config.seed
        self._hash_key = hash_key
        width = load_part(store, manifest, "features")["projection_FH"].shape[1]
        self.shared = self.pooled = Statistics.zero(width, len(manifest.config.labels))
        self.indexes: list[SegmentIndex] = []
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
        self.indexes += indexes
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
        with deterministic():
            part = FeaturesOfRows(prompted.features_NH, index.labels_N)
            self.pooled = self.pooled + Statistics.of_all([part], self.pooled)
        return segment

    def _index(self, entry: ClusterEntry, segment: Segment) -> SegmentIndex:
        """The index of a segment; a damaged one is written again, under the same name: it follows from the rows."""
        index = self.sound(lambda: read_index(self._store, self._hash_key, entry.key, segment))
        table = read_segment(self._store, self._hash_key, entry.key, segment)
        with deterministic():
            self.shared = self.shared + Statistics.of_all([table], self.shared)
        if index is None:
            index = SegmentIndex.of(table, self._seed, self._hash_key)
            self._store.put(index_object(segment.rows_object), index.to_safetensors())
        return index
