"""The partition as rows come and go: the number of rows at each node of the dendrogram, and the rule applied locally.

A change of rows changes the partition only below the highest node that was, or becomes, one cluster with a touched
anchor. So the rule is applied below those nodes, and everything else stays.

Legend: A anchors, R rows that come or go.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from lmeraser.learning.partition import Cluster, Dendrogram, clusters_below, rows_below
from lmeraser.state.cluster_entry import ClusterEntry


@dataclass(frozen=True)
class LocalChange:
    """What a change of rows does to the partition.

    Attributes:
        before: keys of the clusters in the parts of the dendrogram that it touches.
        clusters: the clusters there after it.
        rows_at: how many rows there are after it below each node whose number changes.
    """

    before: tuple[str, ...]
    clusters: tuple[Cluster, ...]
    rows_at: Mapping[int, int]


class LivePartition:
    """Which clusters there are. Only :meth:`follow` changes it."""

    def __init__(
        self, dendrogram: Dendrogram, max_cluster_rows: int, rows_A: np.ndarray, entries: Iterable[ClusterEntry]
    ) -> None:
        """Start from the rows at each anchor, int64 [A], and the clusters that they are in."""
        self._dendrogram = dendrogram
        self._max_cluster_rows = max_cluster_rows
        self._parents = dendrogram.parents
        self._rows_at = rows_below(dendrogram, rows_A)
        self._at_anchor: dict[int, list[ClusterEntry]] = defaultdict(list)
        for entry in entries:
            self._register(entry)

    def changed(self, anchors_R: np.ndarray, sign: int, bits_at: Callable[[int], np.ndarray]) -> LocalChange:
        """What becomes of the partition if rows at these anchors come or go.

        Args:
            anchors_R: int32, the anchor of each row.
            sign: 1 for rows that come, -1 for rows that go.
            bits_at: the bits of the rows at an anchor after the change, uint64.
        """
        touched, counts = np.unique(anchors_R, return_counts=True)
        rows_at: dict[int, int] = {}
        for anchor, count in zip(touched.tolist(), counts.tolist(), strict=True):
            node = anchor
            while node >= 0:
                rows_at[node] = rows_at.get(node, int(self._rows_at[node])) + sign * count
                node = int(self._parents[node])

        def after(node: int) -> int:
            return rows_at[node] if node in rows_at else int(self._rows_at[node])

        tops = {
            max(self._cluster_node(anchor, lambda node: int(self._rows_at[node])), self._cluster_node(anchor, after))
            for anchor in touched.tolist()
        }
        before: dict[str, None] = {}
        clusters: list[Cluster] = []
        for top in (top for top in tops if not self._is_below(top, tops)):
            for anchor in self._dendrogram.leaves(top):
                before.update(dict.fromkeys(entry.key for entry in self._at_anchor.get(anchor, ())))
            clusters += clusters_below(self._dendrogram, top, after, bits_at, self._max_cluster_rows)
        return LocalChange(tuple(before), tuple(clusters), rows_at)

    def follow(self, change: LocalChange, entries: Iterable[ClusterEntry], ended: Iterable[ClusterEntry]) -> None:
        """Take over a change that was committed: its clusters have these entries, and these have ended."""
        for node, rows in change.rows_at.items():
            self._rows_at[node] = rows
        for entry in ended:
            for anchor in entry.anchors:
                self._at_anchor[anchor] = [other for other in self._at_anchor[anchor] if other.key != entry.key]
        for entry in entries:
            self._register(entry)

    def cluster_of(self, anchor: int, bits: int) -> str | None:
        """Key of the cluster that holds a row with these bits at this anchor; None where there is none."""
        entries = self._at_anchor.get(anchor, ())
        return next((entry.key for entry in entries if entry.region.holds_bits(bits)), None)

    def _register(self, entry: ClusterEntry) -> None:
        for anchor in entry.anchors:
            others = [other for other in self._at_anchor[anchor] if other.key != entry.key]
            self._at_anchor[anchor] = [*others, entry]

    def _cluster_node(self, anchor: int, rows_at: Callable[[int], int]) -> int:
        """The node that is a cluster and holds the anchor; the anchor itself where it is divided."""
        node = anchor
        while (parent := int(self._parents[node])) >= 0 and rows_at(parent) <= self._max_cluster_rows:
            node = parent
        return node

    def _is_below(self, node: int, tops: set[int]) -> bool:
        """Whether another of these nodes is above this one."""
        while (node := int(self._parents[node])) >= 0:
            if node in tops:
                return True
        return False
