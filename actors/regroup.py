"""From one commit to the next: which clusters change.

Legend: R rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from actors.jobs import RowObject, RowsJob
from actors.live_partition import LivePartition, LocalChange
from actors.row_index import Rows
from lmeraser.learning.region import RegionIndex
from lmeraser.state.cluster_entry import ClusterEntry
from lmeraser.state.log import Position
from lmeraser.state.segment import SegmentIndex


@dataclass(frozen=True)
class Regrouping:
    """What a change of rows does to the clusters.

    Attributes:
        jobs: what the owners of the clusters that change have to write.
        replaced: entries of clusters whose rows change, also of those that keep their region.
    """

    jobs: tuple[RowsJob, ...]
    replaced: tuple[ClusterEntry, ...]

    @property
    def ended(self) -> tuple[ClusterEntry, ...]:
        """The replaced entries of clusters that are no more: their rows move to others, or are all erased."""
        written = {job.region.key for job in self.jobs}
        return tuple(entry for entry in self.replaced if entry.key not in written)


def regroup(
    entries: Mapping[str, ClusterEntry],
    change: LocalChange,
    removed: Mapping[str, Rows],
    added: Iterable[tuple[RowObject, SegmentIndex]],
    position: Position,
) -> Regrouping:
    """Find the clusters that change.

    Args:
        entries: entries before the change, by their keys.
        change: what it does to the partition.
        removed: the rows that are erased, by the keys of the clusters that held them.
        added: row objects of the rows that are added, each with its rows.
        position: the coordinator's position in the log.
    """
    objects = _objects_by_cluster(added, change)
    before = [entries[key] for key in change.before]
    kept = {
        cluster.key
        for cluster in change.clusters
        if cluster.key in entries and cluster.key not in removed and cluster.key not in objects
    }
    replaced = tuple(entry for entry in before if entry.key not in kept)
    jobs = []
    for cluster in change.clusters:
        if cluster.key in kept:
            continue
        meeting = [entry for entry in replaced if cluster.region.meets(entry.region)]
        leaving = [removed[entry.key].samples_R32 for entry in meeting if entry.key in removed]
        jobs.append(
            RowsJob(
                region=cluster.region,
                entry=next((entry for entry in meeting if entry.key == cluster.key), None),
                sources=tuple(entry for entry in meeting if entry.key != cluster.key),
                added=tuple(objects.get(cluster.key, ())),
                removed=np.concatenate([np.zeros((0, 32), np.uint8), *leaving]).tobytes(),
                position=position,
            )
        )
    return Regrouping(tuple(jobs), replaced)


def by_cluster(rows: Rows, partition: LivePartition) -> dict[str, Rows]:
    """The rows by the keys of the clusters that hold them."""
    positions: dict[str, list[int]] = defaultdict(list)
    for row, (anchor, bits) in enumerate(zip(rows.anchors_R.tolist(), rows.bits_R.tolist(), strict=True)):
        key = partition.cluster_of(anchor, bits)
        assert key is not None
        positions[key].append(row)
    return {key: rows.at(np.array(places)) for key, places in positions.items()}


def _objects_by_cluster(
    added: Iterable[tuple[RowObject, SegmentIndex]], change: LocalChange
) -> Mapping[str, list[RowObject]]:
    """The row objects that hold rows of a cluster, by its key."""
    regions = RegionIndex(cluster.region for cluster in change.clusters)
    objects: dict[str, list[RowObject]] = defaultdict(list)
    for row_object, rows in added:
        for key in dict.fromkeys(regions.keys_of(rows.anchors_N, rows.bits_N)):
            if key is not None:
                objects[key].append(row_object)
    return objects
