"""Anchors: centroids of public routing features, and the index that finds a row's nearest one (design 4.2).

Above ``GROUPED_ABOVE`` anchors, k-means over all of them at once and Ward linkage, whose memory grows with the square
of their number, are both done in groups: about as many groups as a group has anchors (decision 57).

Legend: N rows, B rows of a batch, A anchors, R routing features, G groups.
"""

from __future__ import annotations

import math

import faiss
import numpy as np
from scipy.cluster.hierarchy import linkage

from lmeraser.errors import ConfigError
from lmeraser.learning.numerics import in_fixed_batches

GROUPED_ABOVE = 4096
_SEARCH_BATCH = 64
_KMEANS_ITERATIONS = 20


def fit_anchors(routing_NR: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Centroids of public routing features by k-means, float32 [A, R], in lexicographic order.

    Above ``GROUPED_ABOVE`` centroids, k-means divides the rows into groups, and again the rows of each group into a
    share of the centroids that is proportional to its rows.

    Raises:
        ConfigError: when there are fewer rows than anchors.
    """
    if len(routing_NR) < count:
        raise ConfigError(
            f"partition.anchors is {count}, but there are {len(routing_NR)} public rows: set at most as many anchors"
        )
    routing_NR = np.ascontiguousarray(routing_NR, np.float32)
    if count <= GROUPED_ABOVE:
        anchors_AR = _centroids(routing_NR, count, seed)
    else:
        groups = _in_groups(routing_NR, count, seed)
        shares_G = _shares(np.array([len(rows_N) for rows_N in groups]), count)
        anchors_AR = np.concatenate(
            [
                _centroids(routing_NR[rows_N], share, seed)
                for rows_N, share in zip(groups, shares_G.tolist(), strict=True)
                if share > 0
            ]
        )
    return np.ascontiguousarray(anchors_AR[np.lexsort(anchors_AR.T[::-1])])


def merges_of(anchors_AR: np.ndarray) -> np.ndarray:
    """The merges of a dendrogram over anchors, int32 [A - 1, 2], as in SciPy's linkage matrix.

    Ward's minimum variance linkage (Ward 1963) by SciPy. Above ``GROUPED_ABOVE`` anchors it is done within each group,
    and then over the means of the groups.
    """
    if len(anchors_AR) <= GROUPED_ABOVE:
        return _ward(anchors_AR)
    groups = _in_groups(np.ascontiguousarray(anchors_AR, np.float32), len(anchors_AR), seed=0)
    merges: list[np.ndarray] = []
    tops: list[int] = []
    following = len(anchors_AR)
    for members in groups:
        merges.append(_renumbered(_ward(anchors_AR[members]), members, following))
        following += len(members) - 1
        tops.append(following - 1 if len(members) > 1 else int(members[0]))
    means_GR = np.stack([anchors_AR[members].mean(axis=0, dtype=np.float64) for members in groups])
    merges.append(_renumbered(_ward(means_GR), np.array(tops), following))
    return np.concatenate(merges).astype(np.int32)


class AnchorIndex:
    """Finds the nearest anchor of a routing feature."""

    def __init__(self, anchors_AR: np.ndarray) -> None:
        self.anchors_AR = np.ascontiguousarray(anchors_AR, np.float32)
        self._index = faiss.IndexFlatL2(self.anchors_AR.shape[1])
        self._index.add(self.anchors_AR)

    def nearest(self, routing_NR: np.ndarray) -> np.ndarray:
        """The nearest anchor of each row, int32 [N]; the lowest id where several are equally near."""

        def search(routing_BR: np.ndarray) -> tuple[np.ndarray]:
            distances_B2, ids_B2 = self._index.search(routing_BR, min(2, len(self.anchors_AR)))
            tied_B = distances_B2[:, :1] == distances_B2
            lowest_B = np.where(tied_B, ids_B2, np.iinfo(np.int64).max).min(axis=1)
            return (lowest_B.astype(np.int32),)

        return in_fixed_batches(search, np.ascontiguousarray(routing_NR, np.float32), _SEARCH_BATCH)[0]


def _centroids(rows_NR: np.ndarray, count: int, seed: int) -> np.ndarray:
    kmeans = faiss.Kmeans(
        rows_NR.shape[1],
        count,
        niter=_KMEANS_ITERATIONS,
        seed=seed & 0x7FFFFFFF,
        min_points_per_centroid=1,
        max_points_per_centroid=max(256, len(rows_NR) // count + 1),
    )
    kmeans.train(rows_NR)
    return np.asarray(kmeans.centroids, np.float32)


def _in_groups(rows_NR: np.ndarray, anchors: int, seed: int) -> list[np.ndarray]:
    """The row numbers of each group, ascending; no group is empty."""
    centroids_GR = _centroids(rows_NR, math.isqrt(anchors), seed)
    nearest_N = AnchorIndex(centroids_GR).nearest(rows_NR)
    return [np.flatnonzero(nearest_N == group) for group in np.unique(nearest_N)]


def _shares(rows_G: np.ndarray, count: int) -> np.ndarray:
    """Divide ``count`` in proportion to rows, by largest remainder; no group gets more than it has rows."""
    shares_G, remainders_G = np.divmod(rows_G * count, rows_G.sum())
    # Ties go to the group that comes first.
    shares_G[np.argsort(-remainders_G, kind="stable")[: count - shares_G.sum()]] += 1
    return shares_G


def _ward(rows_NR: np.ndarray) -> np.ndarray:
    if len(rows_NR) == 1:
        return np.zeros((0, 2), np.int32)
    merges_M4 = linkage(rows_NR.astype(np.float64), method="ward")
    merges_M2: np.ndarray = merges_M4[:, :2].astype(np.int32)
    return merges_M2


def _renumbered(merges_M2: np.ndarray, leaves: np.ndarray, following: int) -> np.ndarray:
    """Merges over ``leaves`` as merges of a larger tree, in which their own nodes are numbered from ``following``."""
    nodes = np.concatenate([leaves, following + np.arange(len(merges_M2))])
    renumbered_M2: np.ndarray = nodes[merges_M2]
    return renumbered_M2
