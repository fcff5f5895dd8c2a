"""From anchors to clusters (decision 4).

An image has no subject, so where subjects divide an anchor among several clusters, the largest of them answers.

Legend: A anchors, K clusters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from lmeraser.state.cluster_entry import ClusterEntry


@dataclass(frozen=True)
class RoutingTable:
    """Cluster and specialist that serve each anchor.

    Attributes:
        cluster_A: int32, index of the cluster among the commit's clusters; -1 if there is none.
        specialist_A: int32, index of the specialist among those of the snapshot; -1 if there is none.
        clusters: the commit's clusters.
        specialists: index of the specialist of each cluster that has one, by key.
    """

    cluster_A: np.ndarray
    specialist_A: np.ndarray
    clusters: Sequence[ClusterEntry] = ()
    specialists: Mapping[str, int] = field(default_factory=dict)

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
        nowhere_A = np.full(anchors, -1, np.int32)
        table = cls(nowhere_A, nowhere_A.copy(), clusters, _places(with_specialist))
        table._lead_to(range(len(clusters)))
        return table

    def followed_by(self, clusters: Sequence[ClusterEntry], with_specialist: Sequence[str]) -> RoutingTable:
        """The routing table over the clusters of a later commit, where an entry that did not change is the same object.

        Clusters are compared one by one, but only the anchors of those that changed are led to their clusters again;
        for the others, indices are replaced by a look-up in an array.

        Args:
            clusters, with_specialist: as for :meth:`of_clusters`.
        """
        specialists = _places(with_specialist)
        gone = {entry.key: index for index, entry in enumerate(self.clusters)}
        # The last entry is for -1.
        cluster_K1 = np.full(len(self.clusters) + 1, -1, np.int32)
        left: list[ClusterEntry] = []
        changed: list[int] = []
        for index, entry in enumerate(clusters):
            before = gone.pop(entry.key, None)
            if before is not None:
                cluster_K1[before] = index
                had_specialist = entry.key in self.specialists
                if self.clusters[before] is entry and had_specialist == (entry.key in specialists):
                    continue
                left.append(self.clusters[before])
            changed.append(index)
        left += [self.clusters[before] for before in gone.values()]
        specialist_K1 = np.full(len(self.specialists) + 1, -1, np.int32)
        for key, before in self.specialists.items():
            specialist_K1[before] = specialists.get(key, -1)
        table = RoutingTable(cluster_K1[self.cluster_A], specialist_K1[self.specialist_A], clusters, specialists)
        touched_A = np.zeros(len(self.cluster_A), bool)
        for entry in (*left, *(clusters[index] for index in changed)):
            touched_A[list(entry.anchors)] = True
        table.cluster_A[touched_A] = table.specialist_A[touched_A] = -1
        # Regions are disjoint, so only clusters that divide an anchor share it with others.
        divided = (index for index, entry in enumerate(clusters) if entry.bits and touched_A[entry.anchors[0]])
        table._lead_to({*changed, *divided})
        return table

    def _lead_to(self, indices: Iterable[int]) -> None:
        """Lead the anchors of these clusters, which no others share, to the clusters that precede at each."""

        def rank(index: int) -> tuple[bool, int, int]:
            cluster = self.clusters[index]
            return cluster.key in self.specialists, cluster.rows, -int(cluster.key, 16)

        # In rising rank: the last to write an anchor keeps it.
        for index in sorted(indices, key=rank):
            anchors_of_cluster = np.array(self.clusters[index].anchors, np.int64)
            self.cluster_A[anchors_of_cluster] = index
            self.specialist_A[anchors_of_cluster] = self.specialists.get(self.clusters[index].key, -1)


def _places(keys: Sequence[str]) -> dict[str, int]:
    return {key: index for index, key in enumerate(keys)}
