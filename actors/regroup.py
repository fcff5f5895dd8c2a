"""From one commit to the next: which clusters change."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from actors.fail_points import FailPoint, fail_point
from actors.jobs import RowObject, RowsJob
from actors.row_index import RowIndex
from lmeraser.hashing import HashKey
from lmeraser.learning.partition import Partition
from lmeraser.learning.region import RegionIndex
from lmeraser.state.cluster_entry import ClusterEntry
from lmeraser.state.digests import state_leaf
from lmeraser.state.heads_state import HeadsState
from lmeraser.state.layout import HEADS_PART, new_heads_object
from lmeraser.state.log import Position
from lmeraser.store import Store


@dataclass(frozen=True)
class Regrouping:
    """What a change of rows does to the clusters.

    Attributes:
        partition: the partition after the change.
        kept: entries of clusters that the change does not touch.
        jobs: what the owners of all other clusters have to write.
        replaced: entries of clusters whose rows change, also of those that keep their region.
    """

    partition: Partition
    kept: tuple[ClusterEntry, ...]
    jobs: tuple[RowsJob, ...]
    replaced: tuple[ClusterEntry, ...]

    @property
    def ended(self) -> tuple[ClusterEntry, ...]:
        """The replaced entries of clusters that are no more: their rows move to others, or are all erased."""
        written = {job.region.key for job in self.jobs}
        return tuple(entry for entry in self.replaced if entry.key not in written)


def regroup(
    before: Iterable[ClusterEntry],
    partition: Partition,
    removed: RowIndex,
    added: Iterable[tuple[RowObject, RowIndex]],
    requests: tuple[str, ...],
    position: Position,
) -> Regrouping:
    """Find the clusters that a change touches.

    Args:
        before: entries before the change.
        partition: the partition after it.
        removed: the rows that are erased.
        added: row objects of the rows that are added, each with its rows.
        requests: request objects that name the removed rows.
        position: the coordinator's position in the log.
    """
    added_objects = _objects_by_cluster(added, partition)
    touched = clusters_of(removed, partition.index) | added_objects.keys()
    kept, replaced = _split(before, partition, touched)
    kept_keys = {entry.key for entry in kept}
    jobs = []
    for cluster in partition.clusters:
        if cluster.key in kept_keys:
            continue
        meeting = [entry for entry in replaced if cluster.region.meets(entry.region)]
        jobs.append(
            RowsJob(
                region=cluster.region,
                entry=next((entry for entry in meeting if entry.key == cluster.key), None),
                sources=tuple(entry for entry in meeting if entry.key != cluster.key),
                added=tuple(added_objects.get(cluster.key, ())),
                requests=requests,
                position=position,
            )
        )
    return Regrouping(partition, kept, tuple(jobs), replaced)


def _objects_by_cluster(
    added: Iterable[tuple[RowObject, RowIndex]], partition: Partition
) -> Mapping[str, list[RowObject]]:
    """The row objects that hold rows of a cluster, by its key."""
    objects: dict[str, list[RowObject]] = defaultdict(list)
    for row_object, rows in added:
        for key in clusters_of(rows, partition.index):
            objects[key].append(row_object)
    return objects


def _split(
    before: Iterable[ClusterEntry], partition: Partition, touched: Collection[str]
) -> tuple[tuple[ClusterEntry, ...], tuple[ClusterEntry, ...]]:
    """The entries that the partition keeps, in its order, and those that it replaces or removes."""
    entries = {entry.key: entry for entry in before}
    kept = tuple(
        entries[cluster.key] for cluster in partition.clusters if cluster.key in entries and cluster.key not in touched
    )
    kept_keys = {entry.key for entry in kept}
    return kept, tuple(entry for entry in entries.values() if entry.key not in kept_keys)


def clusters_of(rows: RowIndex, regions: RegionIndex) -> frozenset[str]:
    """Keys of the clusters that hold these rows, or would hold them."""
    return frozenset(key for key in regions.keys_of(rows.anchors_N, rows.bits_N) if key is not None)


def put_heads(store: Store, hash_key: HashKey, heads: HeadsState) -> tuple[str, str]:
    """Write the heads; gives their object's name and their keyed digest."""
    name = new_heads_object()
    store.put(name, heads.to_safetensors())
    fail_point(FailPoint.HEADS_WRITTEN)
    return name, state_leaf(hash_key, HEADS_PART, heads.digest())
