"""The partition that follows changes, against the rule applied to all rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.live_partition import LivePartition
from lmeraser.learning.partition import Cluster, Dendrogram, cut
from lmeraser.state.cluster_entry import ClusterEntry

# Unbalanced on one side, balanced on the other.
DENDROGRAM = Dendrogram(np.array([[0, 1], [7, 2], [8, 3], [4, 5], [10, 6], [9, 11]], np.int32))
ANCHORS = 7
ROWS = st.lists(st.tuples(st.integers(0, ANCHORS - 1), st.integers(0, 7)), max_size=14)


def entry_of(cluster: Cluster) -> ClusterEntry:
    region = cluster.region
    return ClusterEntry(region.key, region.anchors, region.bits, cluster.rows, (), "leaf", "leaf", "leaf")


def clusters_of(rows: list[tuple[int, int]], bound: int) -> dict[str, Cluster]:
    anchors_N = np.array([anchor for anchor, _ in rows], np.int32)
    bits_N = np.array([bits << 61 for _, bits in rows], np.uint64)
    return {cluster.key: cluster for cluster in cut(DENDROGRAM, anchors_N, bits_N, bound).clusters}


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(ROWS, st.lists(st.tuples(st.booleans(), ROWS), max_size=4), st.integers(1, 6))
def test_after_any_changes_the_partition_is_that_of_the_rows(
    rows: list[tuple[int, int]], changes: list[tuple[bool, list[tuple[int, int]]]], bound: int
) -> None:
    known = clusters_of(rows, bound)
    rows_A = np.bincount(np.array([anchor for anchor, _ in rows], np.int64), minlength=ANCHORS)
    live = LivePartition(DENDROGRAM, bound, rows_A, map(entry_of, known.values()))
    for come, some in changes:
        if come:
            moving, after = some, rows + some
        else:
            moving = [row for row in set(some) if row in rows]
            after = list(rows)
            for row in moving:
                after.remove(row)

        def bits_at(anchor: int, after: list[tuple[int, int]] = after) -> np.ndarray:
            return np.array([bits << 61 for other, bits in after if other == anchor], np.uint64)

        anchors_R = np.array([anchor for anchor, _ in moving], np.int32)
        change = live.changed(anchors_R, 1 if come else -1, bits_at)
        assert set(change.before) <= known.keys()
        ended = [entry_of(known[key]) for key in change.before]
        known = {key: each for key, each in known.items() if key not in change.before}
        known |= {cluster.key: cluster for cluster in change.clusters}
        live.follow(change, map(entry_of, change.clusters), ended)
        rows = after
        assert known == clusters_of(rows, bound)
        for anchor, bits in rows:
            key = live.cluster_of(anchor, bits << 61)
            assert key is not None and known[key].region.anchors.count(anchor) == 1


@pytest.mark.parametrize("anchor", [0, 4])
def test_a_change_looks_at_the_touched_part_of_the_dendrogram_only(anchor: int) -> None:
    rows = [(each, 0) for each in range(ANCHORS) for _ in range(3)]
    known = clusters_of(rows, 7)
    live = LivePartition(DENDROGRAM, 7, np.full(ANCHORS, 3), map(entry_of, known.values()))
    change = live.changed(np.array([anchor], np.int32), -1, lambda _: np.zeros(0, np.uint64))
    touched = {key for key, cluster in known.items() if anchor in cluster.region.anchors}
    assert set(change.before) == touched != set(known)
