"""From one commit to the next: which clusters change, and the statistics of the new heads.

Legend: N rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from actors.fail_points import FailPoint, fail_point
from actors.owner import Region, RowObject, RowsJob, WrittenObject
from actors.row_index import RowIndex
from lmeraser.hashing import HashKey
from lmeraser.learning.heads import Statistics
from lmeraser.learning.partition import Cluster, Partition
from lmeraser.state.commit import ClusterEntry, Commit
from lmeraser.state.digests import json_digest, state_leaf
from lmeraser.state.heads_state import HeadsState
from lmeraser.state.log import Position
from lmeraser.state.rows import RowTable
from lmeraser.state.specialist import Specialist
from lmeraser.state.stored_objects import object_name
from lmeraser.store import Store


@dataclass(frozen=True)
class Regrouping:
    """What a change of rows does to the clusters.

    Attributes:
        partition: the partition after the change.
        kept: entries of clusters that the change does not touch.
        jobs: what the owners of all other clusters have to write.
        replaced: entries that the change replaces or removes.
    """

    partition: Partition
    kept: tuple[ClusterEntry, ...]
    jobs: tuple[RowsJob, ...]
    replaced: tuple[ClusterEntry, ...]


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
    touched = _clusters_of(removed, partition) | added_objects.keys()
    kept, replaced = _split(before, partition, touched)
    kept_keys = {entry.key for entry in kept}
    jobs = []
    for cluster in partition.clusters:
        if cluster.key in kept_keys:
            continue
        sources = tuple(rows_source(entry) for entry in replaced if _may_share_rows(cluster, entry))
        jobs.append(
            RowsJob(
                region=Region(cluster.key, cluster.anchors, cluster.bits),
                sources=(*sources, *added_objects.get(cluster.key, ())),
                requests=requests,
                target=object_name(f"rows/{cluster.key}", "parquet"),
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
        for key in _clusters_of(rows, partition):
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


class ClustersOfRows:
    """Finds the clusters of a commit that hold given rows."""

    def __init__(self, entries: Iterable[ClusterEntry]) -> None:
        """For the clusters of these entries."""
        self._at_anchor: dict[int, list[tuple[str, str]]] = defaultdict(list)
        for entry in entries:
            for anchor in entry.anchors:
                self._at_anchor[anchor].append((entry.bits, entry.key))

    def holding(self, rows: RowIndex) -> frozenset[str]:
        """Keys of the clusters that hold these rows."""
        return frozenset(
            key
            for anchor, bits in zip(rows.anchors_N.tolist(), rows.bits_N.tolist(), strict=True)
            for leading, key in self._at_anchor.get(anchor, ())
            if f"{bits:064b}".startswith(leading)
        )


def _clusters_of(rows: RowIndex, partition: Partition) -> set[str]:
    """Keys of the clusters that hold these rows, or would hold them."""
    keys = map(partition.cluster_of, rows.anchors_N.tolist(), rows.bits_N.tolist())
    return {key for key in keys if key is not None}


def _may_share_rows(cluster: Cluster, entry: ClusterEntry) -> bool:
    """Whether a row can be in both: they share an anchor, and the bits of one begin with those of the other."""
    on_one_path = cluster.bits.startswith(entry.bits) or entry.bits.startswith(cluster.bits)
    return on_one_path and not set(cluster.anchors).isdisjoint(entry.anchors)


def rows_source(entry: ClusterEntry) -> RowObject:
    """The row object of a cluster."""
    return RowObject(entry.rows_object, f"rows/{entry.key}", entry.rows_leaf)


def statistics_of_rows(tables: Iterable[RowTable], only: Collection[str] | None, like: Statistics) -> Statistics:
    """The shared head's statistics of the rows in the tables; of these ids only, where they are given."""
    classes = len(like.counts_C)
    total = Statistics.zero(len(like.sums_H), classes)
    if only is not None:
        chosen = (table.where(np.array([name in only for name in table.sample_ids], bool)) for table in tables)
        # A few rows of each of many clusters: one sum is cheaper than many.
        tables = (RowTable.concatenate(chosen, len(like.sums_H)),)
    for table in tables:
        total = total + Statistics.of(table.features_NH, table.labels_N, classes)
    return total


def statistics_of_specialists(specialists: Iterable[Specialist], like: Statistics) -> Statistics:
    """The pooled head's statistics of these clusters."""
    classes = len(like.counts_C)
    total = Statistics.zero(len(like.sums_H), classes)
    for specialist in specialists:
        total = total + Statistics.of(specialist.features_NH, specialist.labels_N, classes)
    return total


def put_heads(store: Store, hash_key: HashKey, heads: HeadsState) -> tuple[str, str]:
    """Write the heads; gives their object's name and their keyed digest."""
    name = object_name("heads", "safetensors")
    store.put(name, heads.to_safetensors())
    fail_point(FailPoint.HEADS_WRITTEN)
    return name, state_leaf(hash_key, "heads", heads.digest())


def regrouped_entries(regrouping: Regrouping, written: Mapping[str, WrittenObject]) -> tuple[ClusterEntry, ...]:
    """The entries after the change; clusters whose rows were written again have no specialist."""
    rewritten = (
        ClusterEntry(
            key=job.region.key,
            anchors=job.region.anchors,
            bits=job.region.bits,
            rows=written[job.region.key].rows,
            rows_object=job.target,
            rows_leaf=written[job.region.key].leaf,
        )
        for job in regrouping.jobs
    )
    return tuple(sorted((*regrouping.kept, *rewritten), key=lambda entry: entry.key))


def with_entry(commit: Commit, changed: ClusterEntry) -> Commit:
    """The commit with this entry instead of the one with the same key."""
    entries = (changed if entry.key == changed.key else entry for entry in commit.clusters)
    return replace(commit, clusters=tuple(entries))


def partition_leaf(hash_key: HashKey, partition: Partition) -> str:
    """The keyed digest of a partition."""
    return state_leaf(hash_key, "partition", json_digest(partition.canonical()))
