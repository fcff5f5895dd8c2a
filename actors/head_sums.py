"""The sums that the heads are solved from, after a change of the rows: exact integers, added and subtracted.

Legend: N rows, M keyed hashes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from actors.jobs import WrittenRows
from lmeraser.hashing import HashKey
from lmeraser.learning.heads import LabelledFeatures, Statistics
from lmeraser.state.cluster_entry import ClusterEntry, Segment
from lmeraser.state.commit import Commit
from lmeraser.state.manifest import Manifest
from lmeraser.state.specialist import FeaturesOfRows, RemovedFeatures
from lmeraser.state.stored_objects import read_features, read_index, read_removed, read_segment
from lmeraser.store import Store


class HeadSums:
    """Reads the features that a change adds to the sums or takes from them."""

    def __init__(self, store: Store, manifest: Manifest, hash_key: HashKey) -> None:
        self._store = store
        self._seed = manifest.config.seed
        self._hash_key = hash_key

    def removed_from(self, written: Mapping[str, WrittenRows]) -> list[RemovedFeatures]:
        """What the owners left of the rows that were removed from clusters which still exist."""
        return [
            read_removed(self._store, self._hash_key, key, rows.removed_object, rows.removed_leaf)
            for key, rows in written.items()
            if rows.removed_object is not None and rows.removed_leaf is not None
        ]

    def rows_of(self, entries: Iterable[ClusterEntry], samples_M32: np.ndarray) -> Iterator[FeaturesOfRows]:
        """Features under the public prompt of the rows whose samples have these keyed hashes, uint8 [M, 32].

        Only segments that hold some of them are read.
        """
        for entry in entries if len(samples_M32) else ():
            for segment in entry.segments:
                named_N = read_index(self._store, self._hash_key, entry.key, segment).among(samples_M32)
                if named_N.any():
                    table = read_segment(self._store, self._hash_key, entry.key, segment).where(named_N)
                    yield FeaturesOfRows(table.features_NH, table.labels_N)

    def prompted(self, entry: ClusterEntry, segments: Iterable[Segment]) -> Iterator[FeaturesOfRows]:
        """Features under the cluster's prompt of the rows of those of its segments that have them."""
        for segment in segments:
            if segment.prompted_object is not None:
                yield read_features(self._store, self._hash_key, entry.key, segment)

    def pooled_after(
        self,
        pooled: Statistics,
        before: Commit,
        ending: Sequence[ClusterEntry],
        removed: Iterable[RemovedFeatures],
    ) -> Statistics:
        """The pooled head's sums after a change.

        Sums are exact, so subtracting what ends and adding up what remains give the same integers: the way that reads
        fewer rows is taken.

        Args:
            pooled: the sums before it.
            before: the commit before it.
            ending: those of its clusters that end, or lose their prompt.
            removed: of the clusters that keep their prompt, the rows that are removed.
        """
        if 2 * _prompted_rows(ending) <= pooled.rows:
            after = pooled - self._sum(ending, pooled)
        else:
            keys = {entry.key for entry in ending}
            after = self._sum([entry for entry in before.clusters if entry.key not in keys], pooled)
        return after - sum_of((each.pooled for each in removed), pooled)

    def _sum(self, entries: Iterable[ClusterEntry], like: Statistics) -> Statistics:
        return sum_of((each for entry in entries for each in self.prompted(entry, entry.segments)), like)


def sum_of(parts: Iterable[FeaturesOfRows], like: Statistics) -> Statistics:
    """The sum over all rows of these parts; ``like`` has the same numbers of features and classes."""
    filled: list[LabelledFeatures] = [part for part in parts if len(part.labels_N)]
    return Statistics.of_all(filled, like)


def _prompted_rows(entries: Iterable[ClusterEntry]) -> int:
    return sum(segment.rows for entry in entries for segment in entry.segments if segment.prompted_object is not None)
