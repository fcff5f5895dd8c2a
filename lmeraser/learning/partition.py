"""Dendrogram and partition: which rows share a prompt (LMEraser, section 3; design 4.2).

Everything here except the partition is computed from public data. Of private rows, the partition depends only on how
many there are at each anchor and, below an anchor, on the bits of their subjects.

Legend: N rows, A anchors, R routing features, M merges of the linkage (A - 1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lmeraser.learning.anchors import merges_of
from lmeraser.learning.region import BITS, Region, RegionIndex


@dataclass(frozen=True)
class Dendrogram:
    """Ward linkage over anchors.

    Attributes:
        children_M2: int32; merge m joins these two nodes into node A + m. Nodes below A are anchors.
    """

    children_M2: np.ndarray

    @staticmethod
    def fit(anchors_AR: np.ndarray) -> Dendrogram:
        """The dendrogram over anchors; see merges_of."""
        return Dendrogram(merges_of(anchors_AR))

    @staticmethod
    def from_tensors(tensors: Mapping[str, np.ndarray]) -> Dendrogram:
        """The inverse of :meth:`tensors`."""
        return Dendrogram(tensors["children_M2"])

    def tensors(self) -> dict[str, np.ndarray]:
        """The dendrogram as arrays."""
        return {"children_M2": self.children_M2}

    @cached_property
    def parents(self) -> np.ndarray:
        """The node above each node, int32 [A + M]; -1 above the root."""
        parents = np.full(2 * self.anchors - 1, -1, np.int32)
        parents[self.children_M2] = np.arange(self.anchors, 2 * self.anchors - 1, dtype=np.int32)[:, None]
        return parents

    @property
    def anchors(self) -> int:
        """How many anchors there are."""
        return len(self.children_M2) + 1

    def leaves(self, node: int) -> tuple[int, ...]:
        """The anchors below a node, ascending."""
        return tuple(sorted(self._below(node)))

    def in_order(self) -> list[int]:
        """All anchors, with those below each node next to each other."""
        return self._below(2 * self.anchors - 2)

    def _below(self, node: int) -> list[int]:
        anchors: list[int] = []
        stack = [node]
        while stack:
            node = stack.pop()
            if node < self.anchors:
                anchors.append(node)
            else:
                stack.extend(self.children_M2[node - self.anchors].tolist())
        return anchors


@dataclass(frozen=True)
class Cluster:
    """A prompt cluster: a region, and how many rows are in it."""

    region: Region
    rows: int

    @property
    def key(self) -> str:
        """Names the cluster; see Region.key."""
        return self.region.key


@dataclass(frozen=True)
class Partition:
    """The prompt clusters, sorted by key."""

    clusters: tuple[Cluster, ...]

    @cached_property
    def index(self) -> RegionIndex:
        """Finds the cluster of a row. There is none where the partition has no row at that point of the dendrogram."""
        return RegionIndex(cluster.region for cluster in self.clusters)


def cut(dendrogram: Dendrogram, anchors_N: np.ndarray, bits_N: np.ndarray, max_cluster_rows: int) -> Partition:
    """Split from the root while a node holds more than ``max_cluster_rows`` rows; there is no other rule.

    Below an anchor, a node is split by the next bit of its rows (lmeraser.hashing.row_bits), unless they all have the
    same bits. A node without rows is not a cluster.

    Args:
        dendrogram: over the anchors.
        anchors_N: int32, nearest anchor of each row.
        bits_N: uint64, the bits of each row.
        max_cluster_rows: the bound, at least 1.
    """
    rows_at = rows_below(dendrogram, np.bincount(anchors_N, minlength=dendrogram.anchors))
    clusters = clusters_below(
        dendrogram,
        len(rows_at) - 1,
        lambda node: int(rows_at[node]),
        lambda anchor: bits_N[anchors_N == anchor],
        max_cluster_rows,
    )
    return Partition(tuple(sorted(clusters, key=lambda cluster: cluster.key)))


def clusters_below(
    dendrogram: Dendrogram,
    top: int,
    rows_at: Callable[[int], int],
    bits_at: Callable[[int], np.ndarray],
    max_cluster_rows: int,
) -> Iterator[Cluster]:
    """The clusters below a node, by the rule of :func:`cut`.

    Args:
        dendrogram: over the anchors.
        top: the node, which belongs to no larger cluster.
        rows_at: how many rows there are below a node.
        bits_at: the bits of the rows at an anchor, uint64.
        max_cluster_rows: the bound.
    """
    stack = [top]
    while stack:
        node = stack.pop()
        rows = rows_at(node)
        if rows == 0:
            continue
        if rows <= max_cluster_rows:
            yield Cluster(Region(dendrogram.leaves(node), ""), rows)
        elif node >= dendrogram.anchors:
            stack.extend(dendrogram.children_M2[node - dendrogram.anchors].tolist())
        else:
            yield from _split_by_bits(node, "", bits_at(node), max_cluster_rows)


def rows_below(dendrogram: Dendrogram, rows_A: np.ndarray) -> np.ndarray:
    """Rows at every node, int64 [A + M], anchors first, the root last."""
    rows_at = np.concatenate([rows_A, np.zeros(len(dendrogram.children_M2), np.int64)])
    for merge, (left, right) in enumerate(dendrogram.children_M2.tolist()):
        rows_at[dendrogram.anchors + merge] = rows_at[left] + rows_at[right]
    return rows_at


def _split_by_bits(anchor: int, bits: str, bits_N: np.ndarray, max_cluster_rows: int) -> Iterator[Cluster]:
    if len(bits_N) == 0:
        return
    if len(bits_N) <= max_cluster_rows or (bits_N == bits_N[0]).all():
        yield Cluster(Region((anchor,), bits), len(bits_N))
        return
    one_N = (bits_N >> np.uint64(BITS - 1 - len(bits))) & np.uint64(1) == 1
    yield from _split_by_bits(anchor, bits + "0", bits_N[~one_N], max_cluster_rows)
    yield from _split_by_bits(anchor, bits + "1", bits_N[one_N], max_cluster_rows)
