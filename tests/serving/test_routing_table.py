"""A routing table that follows another one is the table of its commit.

Legend: N rows, A anchors, R routing features.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lmeraser.learning.partition import Dendrogram, cut
from lmeraser.state.cluster_entry import ClusterEntry
from serving import routing_table
from serving.routing_table import RoutingTable

ANCHORS = 24


def table_of(clusters: list[ClusterEntry], with_specialist: list[str]) -> RoutingTable:
    return RoutingTable.of_clusters(tuple(clusters), with_specialist, ANCHORS)


def entry(anchors: tuple[int, ...], rows: int, bits: str = "", key: str | None = None) -> ClusterEntry:
    blank = ClusterEntry("", anchors, bits, rows, (), "rows", "coreset", "contents")
    return replace(blank, key=key or blank.region.key)


class Partitions:
    """Partitions of rows that come and go, some of them many at one anchor, and specialists that come and go."""

    def __init__(self, seed: int) -> None:
        self.generator = np.random.default_rng(seed)
        self.dendrogram = Dendrogram.fit(self.generator.normal(size=(ANCHORS, 4)))
        self.anchors_N = np.zeros(0, np.int32)
        self.bits_N = np.zeros(0, np.uint64)
        self.entries: dict[str, ClusterEntry] = {}

    def next(self) -> tuple[list[ClusterEntry], list[str]]:
        """Some clusters of the last partition and some others, each an object of its own; and which are tuned."""
        kept_N = self.generator.random(len(self.anchors_N)) < self.generator.choice([0.3, 0.95])
        added = int(self.generator.integers(0, 30))
        # Anchors 0 to 2 have many rows, so they are divided by bits.
        anchors_M = self.generator.choice(ANCHORS, added, p=[0.2] * 3 + [0.4 / (ANCHORS - 3)] * (ANCHORS - 3))
        self.anchors_N = np.concatenate([self.anchors_N[kept_N], anchors_M.astype(np.int32)])
        bits_M = self.generator.integers(0, 2**63, added, np.uint64) * np.uint64(2)
        self.bits_N = np.concatenate([self.bits_N[kept_N], bits_M])
        partition = cut(self.dendrogram, self.anchors_N, self.bits_N, 6)
        after = {}
        for cluster in partition.clusters:
            before = self.entries.get(cluster.key)
            unchanged = before is not None and before.rows == cluster.rows and self.generator.random() < 0.9
            region = cluster.region
            after[cluster.key] = before if before and unchanged else entry(region.anchors, cluster.rows, region.bits)
        self.entries = after
        tuned = [key for key in after if self.generator.random() < 0.6]
        return list(after.values()), [str(key) for key in self.generator.permutation(tuned)]


@pytest.mark.parametrize("seed", range(8))
def test_tables_that_follow_each_other_are_those_of_their_commits(seed: int) -> None:
    partitions = Partitions(seed)
    table = table_of(*partitions.next())
    divided = 0
    for _ in range(40):
        clusters, with_specialist = partitions.next()
        before = (table.cluster_A.copy(), table.specialist_A.copy())
        following = table.followed_by(tuple(clusters), with_specialist)
        expected = table_of(clusters, with_specialist)
        assert following.cluster_A.tolist() == expected.cluster_A.tolist()
        assert following.specialist_A.tolist() == expected.specialist_A.tolist()
        # The previous table still answers.
        assert np.array_equal(before, (table.cluster_A, table.specialist_A))
        table = following
        divided += sum(entry.bits != "" for entry in clusters)
    assert divided > 100


def test_only_anchors_of_changed_clusters_are_led_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    clusters = [entry((2 * number, 2 * number + 1), 10) for number in range(12)]
    clusters.sort(key=lambda cluster: cluster.key)
    table = table_of(clusters, [cluster.key for cluster in clusters])
    led: list[str] = []
    lead_to = RoutingTable._lead_to

    def counted(self: RoutingTable, indices: set[int]) -> None:
        led.extend(self.clusters[index].key for index in indices)
        lead_to(self, indices)

    monkeypatch.setattr(routing_table.RoutingTable, "_lead_to", counted)
    after = [replace(clusters[3], rows=9) if cluster is clusters[3] else cluster for cluster in clusters]
    # The seventh has lost its prompt.
    table.followed_by(tuple(after), [cluster.key for cluster in clusters if cluster is not clusters[7]])
    assert sorted(led) == sorted([clusters[3].key, clusters[7].key])
    led.clear()
    table.followed_by(tuple(clusters), [cluster.key for cluster in clusters])
    assert led == []


def test_where_the_cluster_that_answers_for_an_anchor_is_gone_the_next_one_does() -> None:
    clusters = [entry((5,), rows, bits) for bits, rows in (("00", 3), ("01", 4), ("1", 6))]
    remaining = tuple(clusters[:2])
    following = table_of(clusters, []).followed_by(remaining, [])
    assert following.cluster_A[5] == 1
    assert following.cluster_A.tolist() == table_of(clusters[:2], []).cluster_A.tolist()
