"""The row objects that owners read for a change of rows."""

from __future__ import annotations

import numpy as np
import pytest

from actors.jobs import RowsJob
from actors.regroup import regroup
from actors.row_index import RowIndex
from lmeraser.learning.partition import Cluster, Partition
from lmeraser.learning.region import Region
from lmeraser.state.cluster_entry import ClusterEntry, Segment
from lmeraser.state.log import Position


def entry(anchors: tuple[int, ...], bits: str) -> ClusterEntry:
    key = Region(anchors, bits).key
    segment = Segment(1, 100, f"rows/{key}/old.parquet", "leaf")
    return ClusterEntry(key, anchors, bits, 1, (segment,), "leaf", "leaf")


def sources_of(job: RowsJob) -> list[ClusterEntry]:
    """The clusters that its rows come from, itself among them."""
    return [*([job.entry] if job.entry is not None else []), *job.sources]


def removed_rows(*bits: str) -> RowIndex:
    """Rows at anchor 7, of subjects whose hashes begin with these bits."""
    names = tuple(f"s{number}" for number in range(len(bits)))
    bits_N = np.array([int(prefix.ljust(64, "0"), 2) for prefix in bits], np.uint64)
    return RowIndex(names, names, np.full(len(bits), 7, np.int32), bits_N)


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
    partition = Partition((*(Cluster(Region((7,), bits), 1) for bits in after), Cluster(Region((8, 9), ""), 1)))
    regrouping = regroup(before, partition, removed_rows("00", "01", "1"), (), (), Position(1, 1))
    assert {job.region.bits: [entry.bits for entry in sources_of(job)] for job in regrouping.jobs} == sources
    assert [cluster.anchors for cluster in regrouping.kept] == [(8, 9)]


def test_a_cluster_that_is_split_is_read_by_every_part() -> None:
    before = [entry((7,), "0"), entry((7,), "1")]
    partition = Partition(tuple(Cluster(Region((7,), bits), 1) for bits in ("00", "010", "011", "1")))
    regrouping = regroup(before, partition, removed_rows("00"), (), (), Position(1, 1))
    assert {job.region.bits: [entry.key for entry in sources_of(job)] for job in regrouping.jobs} == {
        bits: [before[0].key] for bits in ("00", "010", "011")
    }
