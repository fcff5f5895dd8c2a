"""From one commit to the next: which clusters change, and what the new heads are.

Legend: N rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from actors.fail_points import FailPoint, fail_point
from actors.owner import RowObject, RowsJob, WrittenObject
from actors.row_index import RowIndex
from lmeraser.hashing import HashKey
from lmeraser.learning.heads import Statistics
from lmeraser.learning.partition import Partition
from lmeraser.learning.region import RegionIndex
from lmeraser.state.commit import ClusterEntry, Commit
from lmeraser.state.digests import json_digest, state_leaf
from lmeraser.state.heads_state import HeadsState
from lmeraser.state.layout import HEADS_PART, PARTITION_PART, new_heads_object, new_rows_object, rows_part
from lmeraser.state.log import Position
from lmeraser.state.rows import RowTable
from lmeraser.store import Store


@dataclass(frozen=True)
class Regrouping:
    """What a change of rows does to the clusters.

    Attributes:
        partition: the partition after the change.
        kept: entries of clusters that the change does not touch.
        jobs: what the owners of the others have to write.
        left: entries of clusters that were touched or are no more.
    """

    partition: Partition
    kept: tuple[ClusterEntry, ...]
    jobs: tuple[RowsJob, ...]
    left: tuple[ClusterEntry, ...]


def regroup(
    before: Iterable[ClusterEntry],
    partition: Partition,
    going: RowIndex,
    coming: Iterable[tuple[RowObject, RowIndex]],
    requests: tuple[str, ...],
    position: Position,
) -> Regrouping:
    """Find the clusters that a change touches.

    Args:
        before: entries before the change.
        partition: the partition after it.
        going: the rows that go.
        coming: row objects of the rows that come, each with its rows.
        requests: request objects that name the rows that go.
        position: where in the log the coordinator stands.
    """
    entries = {entry.key: entry for entry in before}
    incoming: dict[str, list[RowObject]] = defaultdict(list)
    for source, rows in coming:
        for key in clusters_of(rows, partition.index):
            incoming[key].append(source)
    touched = clusters_of(going, partition.index) | incoming.keys()
    kept = tuple(
        entries[cluster.key] for cluster in partition.clusters if cluster.key in entries and cluster.key not in touched
    )
    kept_keys = {entry.key for entry in kept}
    left = tuple(entry for entry in entries.values() if entry.key not in kept_keys)
    jobs = []
    for cluster in partition.clusters:
        if cluster.key in kept_keys:
            continue
        sources = tuple(rows_source(entry) for entry in left if cluster.region.meets(entry.region))
        jobs.append(
            RowsJob(
                region=cluster.region,
                sources=(*sources, *incoming[cluster.key]),
                requests=requests,
                target=new_rows_object(cluster.key),
                position=position,
            )
        )
    return Regrouping(partition, kept, tuple(jobs), left)


def clusters_of(rows: RowIndex, regions: RegionIndex) -> frozenset[str]:
    """Keys of the clusters that hold these rows, or would hold them."""
    return frozenset(key for key in regions.keys_of(rows.anchors_N, rows.bits_N) if key is not None)


def rows_source(entry: ClusterEntry) -> RowObject:
    """Where a cluster's rows lie."""
    return RowObject(entry.rows_object, rows_part(entry.key), entry.rows_leaf)


def statistics_of_rows(tables: Iterable[RowTable], sample_ids: Collection[str], like: Statistics) -> Statistics:
    """The shared head's statistics of the rows in the tables that have these ids."""
    chosen = (table.where(np.array([name in sample_ids for name in table.sample_ids], bool)) for table in tables)
    # A few rows of each of many clusters: one sum is cheaper than many.
    return Statistics.of_all([RowTable.concatenate(chosen, len(like.sums_H))], like)


def put_heads(store: Store, hash_key: HashKey, heads: HeadsState) -> tuple[str, str]:
    """Write the heads; their object's name and their keyed digest."""
    name = new_heads_object()
    store.put(name, heads.to_safetensors())
    fail_point(FailPoint.HEADS_WRITTEN)
    return name, state_leaf(hash_key, HEADS_PART, heads.digest())


def regrouped_entries(regrouping: Regrouping, written: Mapping[str, WrittenObject]) -> tuple[ClusterEntry, ...]:
    """The entries after the change; touched clusters have no specialist."""
    fresh = (
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
    return tuple(sorted((*regrouping.kept, *fresh), key=lambda entry: entry.key))


def with_entry(commit: Commit, changed: ClusterEntry) -> Commit:
    """The commit with this entry in the place of the one with its key."""
    entries = (changed if entry.key == changed.key else entry for entry in commit.clusters)
    return replace(commit, clusters=tuple(entries))


def partition_leaf(hash_key: HashKey, partition: Partition) -> str:
    """The keyed digest of a partition."""
    return state_leaf(hash_key, PARTITION_PART, json_digest(partition.canonical()))
