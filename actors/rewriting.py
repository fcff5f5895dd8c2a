"""How an owner writes its cluster's rows: only the segments that a change touches (design 5).

Rows that leave take their prompted features with them. The prompt stays where the coreset stays; otherwise the cluster
has none until it is tuned, and no row has prompted features.

Legend: N rows, H head features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from actors.jobs import RowsJob
from actors.segment_access import SegmentAccess
from lmeraser.config import StateConfig
from lmeraser.hashing import HashKey
from lmeraser.state.cluster_entry import ClusterEntry, Segment, all_embedded
from lmeraser.state.digests import state_leaf
from lmeraser.state.layout import coreset_part, rows_part
from lmeraser.state.provenance import coreset_contents
from lmeraser.state.rows import RowTable, order_of
from lmeraser.state.segment import SegmentIndex, is_small
from lmeraser.state.specialist import FeaturesOfRows, RemovedFeatures

_NO_ROWS = SegmentIndex(
    samples_N32=np.zeros((0, 32), np.uint8),
    subjects_N32=np.zeros((0, 32), np.uint8),
    labels_N=np.zeros(0, np.int64),
    anchors_N=np.zeros(0, np.int32),
    bits_N=np.zeros(0, np.uint64),
    coreset_N=np.zeros(0, np.uint64),
    digests_N32=np.zeros((0, 32), np.uint8),
    contents_N32=np.zeros((0, 32), np.uint8),
)


@dataclass
class _Pool:
    """Rows to be written as new segments, and segments that stay as they are.

    Attributes:
        stay: the segments that stay.
        tables, indexes: rows to be written.
        features: their prompted features, where all rows of the pool have them.
    """

    stay: list[Segment] = field(default_factory=list)
    tables: list[RowTable] = field(default_factory=list)
    indexes: list[SegmentIndex] = field(default_factory=list)
    features: list[np.ndarray] = field(default_factory=list)


@dataclass(frozen=True)
class _NewRows:
    """The rows of a pool, sorted by sample id.

    Attributes:
        table, index: the rows.
        features_NH: their prompted features, int16; None where they have none.
    """

    table: RowTable
    index: SegmentIndex
    features_NH: np.ndarray | None


class Rewriting:
    """One change of a cluster's rows."""

    def __init__(self, access: SegmentAccess, config: StateConfig, hash_key: HashKey, job: RowsJob) -> None:
        self._access = access
        self._config = config
        self._hash_key = hash_key
        self._job = job
        # By whether the rows have prompted features.
        self._pools = {True: _Pool(), False: _Pool()}
        self._new: dict[bool, _NewRows] = {}
        self._removed_tables: list[RowTable] = []
        self._removed_prompted: list[FeaturesOfRows] = []

    def read(self, hashes_M32: np.ndarray, arriving: Iterator[tuple[RowTable, SegmentIndex]]) -> None:
        """Read what changes.

        Args:
            hashes_M32: uint8, keyed hashes of the samples of the rows that leave.
            arriving: rows that move in, or are new; none of them is among those that leave.
        """
        segments = self._job.entry.segments if self._job.entry is not None else ()
        for segment, index in zip(segments, self._access.indexes(segments), strict=True):
            pool = self._pools[segment.prompted_object is not None]
            removed_N = index.among(hashes_M32)
            if not removed_N.any():
                pool.stay.append(segment)
            else:
                self._take_apart(segment, index, removed_N, pool)
        if rows := [(table, index) for table, index in arriving if len(table)]:
            self._pools[False].tables += [table for table, _ in rows]
            self._pools[False].indexes += [index for _, index in rows]
            for pool in self._pools.values():
                self._compact(pool)
        self._new = {prompted: self._merged(pool) for prompted, pool in self._pools.items()}

    def write(self) -> ClusterEntry:
        """Write the new segments; gives the cluster as it is from now on."""
        job, region = self._job, self._job.region
        index = self._index_after()
        coreset_leaf = self._leaf(coreset_part, index.coreset_digest(self._config.tuning.coreset_rows))
        kept = job.entry if self._keeps_prompt(len(index), coreset_leaf) else None
        segments = self._written(with_features=kept is not None)
        embedded = kept is not None and all_embedded(segments)
        self._access.keep_only(segments)
        return ClusterEntry(
            key=region.key,
            anchors=region.anchors,
            bits=region.bits,
            rows=len(index),
            segments=tuple(segments),
            rows_leaf=self._leaf(rows_part, index.rows_digest()),
            coreset_leaf=coreset_leaf,
            coreset_contents=coreset_contents(self._hash_key, index, self._config),
            prompt_object=kept.prompt_object if kept is not None else None,
            prompt_leaf=kept.prompt_leaf if kept is not None else None,
            prompted_leaf=self._access.prompted_leaf(segments) if embedded else None,
        )

    def removed(self, entry: ClusterEntry) -> RemovedFeatures | None:
        """Features of the rows that left; None where none did.

        Args:
            entry: the cluster as written. Only if it keeps its prompt are there prompted features.
        """
        if not self._removed_tables:
            return None
        table = RowTable.concatenate(self._removed_tables, 0)
        shared = FeaturesOfRows(table.features_NH, table.labels_N)
        parts = self._removed_prompted if entry.prompt_object is not None else []
        nothing = FeaturesOfRows(shared.features_NH[:0], shared.labels_N[:0])
        return RemovedFeatures(shared, FeaturesOfRows.joined([nothing, *parts]))

    def _take_apart(self, segment: Segment, index: SegmentIndex, removed_N: np.ndarray, pool: _Pool) -> None:
        table = self._access.table(segment)
        self._removed_tables.append(table.where(removed_N))
        pool.tables.append(table.where(~removed_N))
        pool.indexes.append(index.at(~removed_N))
        if segment.prompted_object is not None:
            features_NH = self._access.features(segment)
            self._removed_prompted.append(FeaturesOfRows(features_NH[removed_N], table.labels_N[removed_N]))
            pool.features.append(features_NH[~removed_N])

    def _compact(self, pool: _Pool) -> None:
        """Write segments that are at most half full again, together, so that many small ingests leave few segments."""
        small = [segment for segment in pool.stay if is_small(segment.rows, segment.size)]
        if len(small) + bool(sum(map(len, pool.tables))) < 2:
            return
        pool.stay = [segment for segment in pool.stay if segment not in small]
        for segment in small:
            pool.tables.append(self._access.table(segment))
            pool.indexes.append(self._access.index(segment))
            if segment.prompted_object is not None:
                pool.features.append(self._access.features(segment))

    def _merged(self, pool: _Pool) -> _NewRows:
        order = order_of(pool.tables)
        index = SegmentIndex.joined([_NO_ROWS, *pool.indexes]).at(order)
        features_NH = np.concatenate(pool.features)[order] if pool.features else None
        return _NewRows(RowTable.concatenate(pool.tables, 0), index, features_NH)

    def _index_after(self) -> SegmentIndex:
        stay = [self._access.index(segment) for pool in self._pools.values() for segment in pool.stay]
        return SegmentIndex.joined([*stay, *(new.index for new in self._new.values())])

    def _keeps_prompt(self, rows: int, coreset_leaf: str) -> bool:
        entry = self._job.entry
        if entry is None or entry.prompt_object is None:
            return False
        return self._config.tunes(rows) and coreset_leaf == entry.coreset_leaf

    def _written(self, *, with_features: bool) -> list[Segment]:
        segments = []
        for prompted, pool in self._pools.items():
            keeps_features = prompted and with_features
            segments += [segment if keeps_features else segment.without_features() for segment in pool.stay]
            new = self._new[prompted]
            features_NH = new.features_NH if keeps_features else None
            segments += self._access.write(new.table, new.index, features_NH, self._job.position)
        return segments

    def _leaf(self, part: Callable[[str], str], digest: str) -> str:
        return state_leaf(self._hash_key, part(self._job.region.key), digest)
