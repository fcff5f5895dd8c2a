"""The row objects that owners read for a change of rows."""

from __future__ import annotations

import numpy as np
import pytest

from actors.jobs import RowsJob
from actors.live_partition import LocalChange
from actors.regroup import Regrouping, regroup
from actors.row_index import Rows
from lmeraser.learning.partition import Cluster
from lmeraser.learning.region import Region
from lmeraser.state.cluster_entry import ClusterEntry, Segment
from lmeraser.state.log import Position


def entry(anchors: tuple[int, ...], bits: str) -> ClusterEntry:
    key = Region(anchors, bits).key
    segment = Segment(1, 100, f"rows/{key}/old.parquet", "leaf", "leaf")
    return ClusterEntry(key, anchors, bits, 1, (segment,), "leaf", "leaf", "leaf")


def sources_of(job: RowsJob) -> list[ClusterEntry]:
    """The clusters that its rows come from, itself among them."""
    return [*([job.entry] if job.entry is not None else []), *job.sources]


def removed_rows(*bits: str) -> dict[str, Rows]:
    """A row of each of the clusters at anchor 7 with these bits, by the clusters' keys."""
    return {
        Region((7,), prefix).key: Rows(
            np.full((1, 32), number, np.uint8),
            np.array([7], np.int32),
            np.array([int(prefix.ljust(64, "0"), 2)], np.uint64),
        )
        for number, prefix in enumerate(bits)
    }


def regrouped(before: list[ClusterEntry], after: list[Cluster], removed: dict[str, Rows]) -> Regrouping:
    keys = tuple(entry.key for entry in before)
    change = LocalChange(keys, tuple(after), {})
    return regroup({entry.key: entry for entry in before}, change, removed, (), Position(1, 1))


@pytest.mark.parametrize(
    ("after", "sources"),
    [
        (("00", "01", "1"), {"00": ["00"], "01": ["01"], "1": ["1"]}),
        (("0", "1"), {"0": ["00", "01"], "1": ["1"]}),
        (("",), {"": ["00", "01", "1"]}),
    ],
    ids=["as before", "two joined", "all joined"],
)
def test_a_cluster_of_part_of_an_anchor_is_read_from_those_that_can_hold_its_rows(
    after: tuple[str, ...], sources: dict[str, list[str]]
) -> None:
    before = [entry((7,), bits) for bits in ("00", "01", "1")] + [entry((8, 9), "")]
    clusters = [*(Cluster(Region((7,), bits), 1) for bits in after), Cluster(Region((8, 9), ""), 1)]
    regrouping = regrouped(before, clusters, removed_rows("00", "01", "1"))
    assert {job.region.bits: [entry.bits for entry in sources_of(job)] for job in regrouping.jobs} == sources
    assert before[3] not in regrouping.replaced
    assert {job.region.bits: len(job.removed) // 32 for job in regrouping.jobs} == {
        bits: len(clusters) for bits, clusters in sources.items()
    }


def test_a_cluster_that_is_split_is_read_by_every_part() -> None:
    before = [entry((7,), "0"), entry((7,), "1")]
    clusters = [Cluster(Region((7,), bits), 1) for bits in ("00", "010", "011", "1")]
    regrouping = regrouped(before, clusters, removed_rows("0"))
    assert {job.region.bits: [entry.key for entry in sources_of(job)] for job in regrouping.jobs} == {
        bits: [before[0].key] for bits in ("00", "010", "011")
    }
