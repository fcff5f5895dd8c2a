"""Which clusters are attacked, and which of their rows.

Targets are the deleted rows themselves, if the auditor has them, and stand-ins: remaining rows whose deletion is
simulated by fresh runs.

Legend: N rows, T targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lmeraser.audit.evidence import Evidence
from lmeraser.data import Sample
from lmeraser.hashing import draw
from lmeraser.learning.heads import Statistics
from lmeraser.learning.numerics import deterministic
from lmeraser.learning.region import RegionIndex
from lmeraser.state.cluster_entry import ClusterEntry
from lmeraser.state.heads_state import HeadsState
from lmeraser.state.pipeline import Pipeline
from lmeraser.state.rows import RowTable
from lmeraser.state.specialist import Specialist
from lmeraser.state.stored_objects import read_cluster, read_heads_state


@dataclass(frozen=True)
class Plan:
    """How the attack is run.

    Attributes:
        worlds: shadow worlds per attacked cluster, half to fit the attack and half to test it; 0 for none, otherwise at
            least 8.
        targets: the largest number of rows that are attacked per cluster.
        clusters: the largest number of touched clusters that are attacked.
        specialist_weight, temperature: λ and τ of the answers.
    """

    worlds: int
    targets: int
    clusters: int
    specialist_weight: float
    temperature: float


@dataclass(frozen=True)
class AttackedCluster:
    """One cluster under attack, within a system whose other clusters stay as they are.

    Attributes:
        entry: the cluster.
        base: those of its rows that are not targets.
        targets: the rows under attack.
        deleted_T: bool, which of them were really deleted; the others are stand-ins.
        rest_shared, rest_pooled: statistics of all other clusters.
        stored: its specialist as the store has it; None if it has none.
        heads: as the store has them.
    """

    entry: ClusterEntry
    base: RowTable
    targets: RowTable
    deleted_T: np.ndarray
    rest_shared: Statistics
    rest_pooled: Statistics
    stored: Specialist | None
    heads: HeadsState

    @property
    def remaining(self) -> RowTable:
        """All rows that the cluster should have."""
        stand_ins = self.targets.where(~self.deleted_T)
        return RowTable.concatenate([self.base, stand_ins], self.targets.features_NH.shape[1])


@dataclass(frozen=True)
class _Contents:
    """What the store contains, by cluster."""

    tables: Mapping[str, RowTable]
    specialists: Mapping[str, Specialist]
    heads: HeadsState


def attacked(evidence: Evidence, pipeline: Pipeline, deleted: Sequence[Sample], plan: Plan) -> list[AttackedCluster]:
    """The touched clusters with the most deleted rows; among equals, the largest.

    Features of remaining rows and the specialists of other clusters are taken from the store; whether the rows give
    them is for the recomputation to say.

    Args:
        evidence: the audited deletions.
        pipeline: of the store.
        deleted: rows that were deleted; may be empty.
        plan: how many clusters and targets to take.

    Raises:
        ObjectMissingError, ObjectCorruptError: when an object is not what the commit names.
    """
    removed = pipeline.rows(deleted)
    regions = RegionIndex(entry.region for entry in evidence.commit.clusters)
    cluster_N = np.array(regions.keys_of(removed.anchors_N, removed.bits(pipeline.config.seed)), object)
    touched = sorted(
        (entry for entry in evidence.touched() if entry.rows >= 2),
        key=lambda entry: (-int((cluster_N == entry.key).sum()), -entry.rows, entry.key),
    )[: plan.clusters]
    if not touched:
        return []
    contents = _read(evidence)
    return [
        _attacked(pipeline, entry, removed.where(cluster_N == entry.key), contents, plan.targets) for entry in touched
    ]


def _read(evidence: Evidence) -> _Contents:
    store, key = evidence.store, evidence.hash_key
    clusters = {entry.key: read_cluster(store, key, entry) for entry in evidence.commit.clusters}
    return _Contents(
        tables={cluster: rows for cluster, (rows, _) in clusters.items()},
        specialists={cluster: specialist for cluster, (_, specialist) in clusters.items() if specialist is not None},
        heads=read_heads_state(store, key, evidence.commit),
    )


def _attacked(
    pipeline: Pipeline, entry: ClusterEntry, removed: RowTable, contents: _Contents, targets: int
) -> AttackedCluster:
    """The cluster with up to that many targets: its removed rows, then stand-ins, at most a third of its rows."""
    removed = removed.where(np.arange(len(removed)) < targets)
    table = contents.tables[entry.key]
    count = min(targets - len(removed), max(1, len(table) // 3))
    stand_in_N = _drawn(pipeline.config.seed, table, count)
    chosen = RowTable.concatenate([removed, table.where(stand_in_N)], pipeline.feature_map.width)
    deleted_ids = set(removed.sample_ids)
    zero = Statistics.zero(pipeline.feature_map.width, len(pipeline.config.labels))
    return AttackedCluster(
        entry=entry,
        base=table.where(~stand_in_N),
        targets=chosen,
        deleted_T=np.array([name in deleted_ids for name in chosen.sample_ids], bool),
        rest_shared=_sum_without(entry.key, contents.tables, zero),
        rest_pooled=_sum_without(entry.key, contents.specialists, zero),
        stored=contents.specialists.get(entry.key),
        heads=contents.heads,
    )


def _sum_without(
    excluded: str, parts: Mapping[str, RowTable] | Mapping[str, Specialist], zero: Statistics
) -> Statistics:
    """Statistics over the features of all clusters but one."""
    with deterministic():
        return Statistics.of_all((part for key, part in parts.items() if key != excluded), zero)


def _drawn(seed: int, table: RowTable, count: int) -> np.ndarray:
    """A mask that chooses this number of rows, by a hash of their ids."""
    order = sorted(range(len(table)), key=lambda row: draw(seed, "stand-in", table.sample_ids[row]))
    chosen_N = np.zeros(len(table), bool)
    chosen_N[order[:count]] = True
    return chosen_N
