"""An owner's access to the segments of its cluster: what it has read of them, and how it writes new ones.

Segments never change, so what was read under a name stays valid. Kept in memory are indexes and prompted features, and
neither ids in clear nor images.

Legend: N rows, H head features.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np

from lmeraser.errors import FencedError
from lmeraser.hashing import HashKey
from lmeraser.parallel import in_parallel
from lmeraser.state.cluster_entry import Segment
from lmeraser.state.digests import state_leaf
from lmeraser.state.layout import (
    features_part,
    index_object,
    new_prompted_object,
    new_rows_object,
    prompted_part,
    segment_part,
)
from lmeraser.state.log import Position, check_term
from lmeraser.state.manifest import Manifest
from lmeraser.state.rows import RowTable
from lmeraser.state.segment import SegmentIndex, bytes_leaf, pieces, prompted_digest, size_of
from lmeraser.state.specialist import PromptedFeatures
from lmeraser.state.stored_objects import read_index, read_prompted, read_segment
from lmeraser.store import Store, unfenced


class SegmentAccess:
    """Reads and writes the segments of one cluster."""

    def __init__(self, store: Store, manifest: Manifest, hash_key: HashKey, key: str) -> None:
        self._store = store
        self._seed = manifest.config.seed
        self._folder = manifest.folder
        self._hash_key = hash_key
        self._key = key
        self._indexes: dict[str, SegmentIndex] = {}
        self._features: dict[str, np.ndarray] = {}

    def index(self, segment: Segment) -> SegmentIndex:
        """The index of a segment."""
        if segment.rows_object not in self._indexes:
            self._indexes[segment.rows_object] = read_index(self._store, self._hash_key, self._key, segment)
        return self._indexes[segment.rows_object]

    def indexes(self, segments: Iterable[Segment]) -> list[SegmentIndex]:
        """The index of each of these segments; those that were not read yet are read in parallel."""
        segments = list(segments)
        if all(segment.rows_object in self._indexes for segment in segments):
            return [self.index(segment) for segment in segments]
        return in_parallel(self.index, segments)

    def index_of(self, table: RowTable) -> SegmentIndex:
        """The index that these rows would have as a segment."""
        return SegmentIndex.of(table, self._seed, self._hash_key)

    def table(self, segment: Segment) -> RowTable:
        """The rows of a segment, with their images."""
        return read_segment(self._store, self._hash_key, self._key, segment)

    def features(self, segment: Segment) -> np.ndarray:
        """The prompted features of a segment that has them, int16 [N, H]."""
        assert segment.prompted_object is not None
        if segment.prompted_object not in self._features:
            features = read_prompted(self._store, self._hash_key, self._key, segment)
            self._features[segment.prompted_object] = features.features_NH
        return self._features[segment.prompted_object]

    def write(
        self, table: RowTable, index: SegmentIndex, features_NH: np.ndarray | None, position: Position
    ) -> list[Segment]:
        """Write rows, which have this index, as new segments, with their prompted features where they have them."""
        parts = list(pieces(table))
        ends = np.cumsum([len(part) for part in parts], dtype=np.int64)

        def written(part: RowTable, end: int) -> Segment:
            start = end - len(part)
            segment = self._write_rows(part, index.between(start, end), position)
            if features_NH is None:
                return segment
            target = new_prompted_object(self._folder, self._key)
            return self.write_features(segment, features_NH[start:end], target, position)

        return in_parallel(lambda each: written(*each), zip(parts, ends.tolist(), strict=True))

    def write_features(self, segment: Segment, features_NH: np.ndarray, target: str, position: Position) -> Segment:
        """Write the prompted features of a segment's rows, int16 [N, H]; gives the segment with them."""
        features = PromptedFeatures(features_NH)
        self.put(target, features.to_safetensors(), position)
        self._features[target] = features_NH
        leaf = state_leaf(self._hash_key, features_part(self._key), features.digest())
        return segment.with_features(target, leaf)

    def prompted_leaf(self, segments: Iterable[Segment]) -> str:
        """The keyed digest of the prompted features of all rows of these segments, which all have them."""
        segments = list(segments)
        digests_N32 = np.concatenate([index.digests_N32 for index in self.indexes(segments)])
        features_NH = np.concatenate(in_parallel(self.features, segments))
        digest = prompted_digest(digests_N32, features_NH)
        return state_leaf(self._hash_key, prompted_part(self._key), digest)

    def keep_only(self, segments: Collection[Segment]) -> None:
        """Drop what was read of other segments from memory."""
        rows, prompted = ({getattr(each, name) for each in segments} for name in ("rows_object", "prompted_object"))
        self._indexes = {name: index for name, index in self._indexes.items() if name in rows}
        self._features = {name: features_NH for name, features_NH in self._features.items() if name in prompted}

    def put(self, name: str, data: bytes, position: Position) -> None:
        """Write an object; remove it if another coordinator, which may have erased its rows, has taken over."""
        self._store.put(name, data)
        try:
            check_term(self._store, position)
        except FencedError:
            self._store.purge(name, unfenced)
            raise

    def _write_rows(self, table: RowTable, index: SegmentIndex, position: Position) -> Segment:
        name = new_rows_object(self._folder, self._key)
        # The index first: a segment whose rows are there is whole.
        self.put(index_object(name), index.to_safetensors(), position)
        data = table.to_parquet()
        self.put(name, data, position)
        self._indexes[name] = index
        leaf = state_leaf(self._hash_key, segment_part(self._key), index.digest())
        return Segment(len(table), size_of(table), name, bytes_leaf(self._hash_key, self._key, data), leaf)
