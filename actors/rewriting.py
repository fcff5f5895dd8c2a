"""How an owner writes its cluster's rows: only the segments that a change touches (design 5).

Rows that leave take their prompted features with them. The prompt stays where the coreset stays; otherwise the cluster
has none until it is tuned, and no row has prompted features.

Legend: N rows, H head features.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

import numpy as np

from actors.jobs import RowsJob
from actors.segment_access import SegmentAccess
from lmeraser.config import StateConfig
from lmeraser.hashing import HashKey
from lmeraser.state.commit import ClusterEntry, Segment
from lmeraser.state.digests import state_leaf
from lmeraser.state.layout import coreset_part, rows_part
from lmeraser.state.rows import RowTable
from lmeraser.state.segment import SegmentIndex, is_small
from lmeraser.state.specialist import FeaturesOfRows, RemovedFeatures


@dataclass
class _Pool:
    """Rows to be written as new segments, and segments that stay as they are.

    Attributes:
        stay: the segments that stay.
        tables: rows to be written.
        features: their prompted features, where all rows of the pool have them.
    """

    stay: list[Segment] = field(default_factory=list)
    tables: list[RowTable] = field(default_factory=list)
    features: list[np.ndarray] = field(default_factory=list)


class Rewriting:
    """One change of a cluster's rows."""

    def __init__(self, access: SegmentAccess, config: StateConfig, hash_key: HashKey, job: RowsJob) -> None:
        self._access = access
        self._config = config
        self._hash_key = hash_key
        self._job = job
        # By whether the rows have prompted features.
        self._pools = {True: _Pool(), False: _Pool()}
        self._removed_tables: list[RowTable] = []
        self._removed_prompted: list[FeaturesOfRows] = []

    def read(self, hashes: Collection[bytes], arriving: Iterator[RowTable]) -> None:
        """Read what changes.

        Args:
            hashes: keyed hashes of the samples and subjects whose rows leave.
            arriving: rows that move in, or are new; none of them is named by the hashes.
        """
        segments = self._job.entry.segments if self._job.entry is not None else ()
        for segment, index in zip(segments, self._access.indexes(segments), strict=True):
            pool = self._pools[segment.prompted_object is not None]
            removed_N = index.named_by(hashes)
            if not removed_N.any():
                pool.stay.append(segment)
            else:
                self._take_apart(segment, removed_N, pool)
        if tables := [table for table in arriving if len(table)]:
            self._pools[False].tables += tables
            for pool in self._pools.values():
                self._compact(pool)

    def write(self) -> ClusterEntry:
        """Write the new segments; gives the cluster as it is from now on."""
        job, region = self._job, self._job.region
        index = self._index_after()
        coreset_leaf = self._leaf(coreset_part, index.coreset_digest(self._config.tuning.coreset_rows))
        kept = job.entry if self._keeps_prompt(len(index), coreset_leaf) else None
        segments = self._written(with_features=kept is not None)
        embedded = kept is not None and all(segment.prompted_object is not None for segment in segments)
        self._access.keep_only(segments)
        return ClusterEntry(
            key=region.key,
            anchors=region.anchors,
            bits=region.bits,
            rows=len(index),
            segments=tuple(segments),
            rows_leaf=self._leaf(rows_part, index.rows_digest()),
            coreset_leaf=coreset_leaf,
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

    def _take_apart(self, segment: Segment, removed_N: np.ndarray, pool: _Pool) -> None:
        table = self._access.table(segment)
        self._removed_tables.append(table.where(removed_N))
        pool.tables.append(table.where(~removed_N))
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
            if segment.prompted_object is not None:
                pool.features.append(self._access.features(segment))

    def _index_after(self) -> SegmentIndex:
        pools = self._pools.values()
        stay = [self._access.index(segment) for pool in pools for segment in pool.stay]
        return SegmentIndex.joined(stay + [self._access.index_of(table) for pool in pools for table in pool.tables])

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
            segments += self._write_pool(pool, keeps_features)
        return segments

    def _write_pool(self, pool: _Pool, keeps_features: bool) -> list[Segment]:
        if not pool.tables:
            return []
        names = [name for table in pool.tables for name in table.sample_ids]
        table = RowTable.concatenate(pool.tables, 0)
        features_NH = None
        if keeps_features:
            order = sorted(range(len(names)), key=names.__getitem__)
            features_NH = np.concatenate(pool.features)[order]
        return self._access.write(table, features_NH, self._job.position)

    def _leaf(self, part: Callable[[str], str], digest: str) -> str:
        return state_leaf(self._hash_key, part(self._job.region.key), digest)
