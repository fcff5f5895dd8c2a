"""From anchors to clusters (decision 4).

An image has no subject, so where subjects divide an anchor among several clusters, the largest of them answers.

Legend: A anchors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lmeraser.state.cluster_entry import ClusterEntry


@dataclass(frozen=True)
class RoutingTable:
    """Cluster and specialist that serve each anchor.

    Attributes:
        cluster_A: int32, index of the cluster among the commit's clusters; -1 if there is none.
        specialist_A: int32, index of the specialist among those of the snapshot; -1 if there is none.
    """

    cluster_A: np.ndarray
    specialist_A: np.ndarray

    @cached_property
    def one_cluster(self) -> bool:
        """Whether every anchor leads to the same cluster, so that no image needs a search."""
        return bool((self.cluster_A == self.cluster_A[0]).all())

    @classmethod
    def of_clusters(
        cls, clusters: Sequence[ClusterEntry], with_specialist: Sequence[str], anchors: int
    ) -> RoutingTable:
        """The routing table over the clusters of one commit.

        Where several clusters share an anchor, one with a specialist takes precedence over one without, then the one
        with the most rows, then the one with the lowest key.

        Args:
            clusters: the commit's clusters.
            with_specialist: keys of the clusters whose specialist the snapshot holds, in its order.
            anchors: number of anchors.
        """
        specialists = {key: index for index, key in enumerate(with_specialist)}
        cluster_A = np.full(anchors, -1, np.int32)
        specialist_A = np.full(anchors, -1, np.int32)

        def rank(index: int) -> tuple[bool, int, int]:
            cluster = clusters[index]
            return cluster.key in specialists, cluster.rows, -int(cluster.key, 16)

        # In rising rank: the last to write an anchor keeps it.
        for index in sorted(range(len(clusters)), key=rank):
            anchors_of_cluster = np.array(clusters[index].anchors, np.int64)
            cluster_A[anchors_of_cluster] = index
            specialist_A[anchors_of_cluster] = specialists.get(clusters[index].key, -1)
        return cls(cluster_A, specialist_A)
