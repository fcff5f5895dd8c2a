"""From anchors to clusters. An image has no subject, so where subjects divide an anchor, the largest cluster answers.

Legend: A anchors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmeraser.state.commit import ClusterEntry


@dataclass(frozen=True)
class RoutingTable:
    """What an image at each anchor meets.

    Attributes:
        cluster_A: int32, position of the cluster among the commit's clusters; -1 where there is none.
        specialist_A: int32, position of the specialist among those of the snapshot; -1 where there is none.
    """

    cluster_A: np.ndarray
    specialist_A: np.ndarray


def routes(clusters: Sequence[ClusterEntry], with_specialist: Sequence[str], anchors: int) -> RoutingTable:
    """The routes over the clusters of one commit.

    Where several clusters share an anchor, one with a specialist goes before one without, then the one with
    most rows, then the lowest key.

    Args:
        clusters: of the commit.
        with_specialist: keys of the clusters whose specialist the snapshot holds, in its order.
        anchors: how many anchors there are.
    """
    places = {key: place for place, key in enumerate(with_specialist)}
    cluster_A = np.full(anchors, -1, np.int32)
    specialist_A = np.full(anchors, -1, np.int32)
    order = sorted(
        range(len(clusters)),
        key=lambda place: (clusters[place].key in places, clusters[place].rows, _reversed(clusters[place].key)),
    )
    for place in order:
        # The last to write is the first in rank.
        anchors_of_cluster = np.array(clusters[place].anchors, np.int64)
        cluster_A[anchors_of_cluster] = place
        specialist_A[anchors_of_cluster] = places.get(clusters[place].key, -1)
    return RoutingTable(cluster_A, specialist_A)


def _reversed(key: str) -> int:
    return -int(key, 16)
