"""Which clusters are attacked, and which of their rows.

Targets are the deleted rows themselves where the auditor has them, and stand-ins: rows that remain, whose deletion is
simulated by fresh runs.

Legend: N rows, T targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmeraser.audit.evidence import Evidence
from lmeraser.data import Sample
from lmeraser.hashing import draw
from lmeraser.learning.heads import Statistics
from lmeraser.learning.numerics import deterministic
from lmeraser.learning.region import RegionIndex
from lmeraser.state.commit import ClusterEntry
from lmeraser.state.heads_state import HeadsState
from lmeraser.state.pipeline import Pipeline
from lmeraser.state.rows import RowTable
from lmeraser.state.specialist import Specialist
from lmeraser.state.stored_objects import read_heads, read_rows_of, read_specialist


@dataclass(frozen=True)
class Plan:
    """How the attack is run.

    Attributes:
        worlds: shadow worlds of each attacked cluster; half of them to fit, half to test; 0 for none, else at least 8.
        targets: at most so many rows of a cluster are attacked.
        clusters: at most so many of the touched clusters are attacked.
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
        base: its rows that are no targets.
        targets: the rows under attack.
        deleted_T: bool, which of them were really deleted; the others are stand-ins.
        rest_shared, rest_pooled: statistics of all other clusters.
        stored: its specialist as the store has it; None where it has none.
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
        """All rows that the cluster should hold."""
        stand_ins = self.targets.where(~self.deleted_T)
        return RowTable.concatenate([self.base, stand_ins], self.targets.features_NH.shape[1])


def attacked(evidence: Evidence, pipeline: Pipeline, deleted: Sequence[Sample], plan: Plan) -> list[AttackedCluster]:
    """The touched clusters with most deleted rows, then the largest.

    Features of remaining rows and the specialists of other clusters are taken from the store; whether they are what the
    rows give is the recomputation's question.

    Raises:
        ObjectMissingError, ObjectCorruptError: when an object is not what the commit names.
    """
    gone = pipeline.rows(deleted)
    regions = RegionIndex(entry.region for entry in evidence.commit.clusters)
    owner_N = np.array(regions.keys_of(gone.anchors_N, gone.bits(pipeline.config.seed)), object)
    touched = sorted(
        (entry for entry in evidence.touched() if entry.rows >= 2),
        key=lambda entry: (-int((owner_N == entry.key).sum()), -entry.rows, entry.key),
    )[: plan.clusters]
    if not touched:
        return []
    store, key = evidence.store, evidence.hash_key
    tables: dict[str, RowTable] = {}
    specialists: dict[str, Specialist] = {}
    for entry in evidence.commit.clusters:
        tables[entry.key] = read_rows_of(store, key, entry)
        if entry.specialist_object is not None:
            specialists[entry.key] = read_specialist(
                store, key, entry.key, entry.specialist_object, entry.specialist_leaf
            )
    heads = read_heads(store, key, evidence.commit)
    nothing = Statistics.zero(pipeline.feature_map.width, len(pipeline.config.labels))
    found = []
    for entry in touched:
        own = gone.where(owner_N == entry.key)
        own = own.where(np.arange(len(own)) < plan.targets)
        table = tables[entry.key]
        count = min(plan.targets - len(own), max(1, len(table) // 3))
        stand_in_N = _drawn(pipeline.config.seed, table, count)
        with deterministic():
            shared = Statistics.of_all((rows for key, rows in tables.items() if key != entry.key), nothing)
            pooled = Statistics.of_all((tuned for key, tuned in specialists.items() if key != entry.key), nothing)
        targets = RowTable.concatenate([own, table.where(stand_in_N)], pipeline.feature_map.width)
        deleted_ids = set(own.sample_ids)
        found.append(
            AttackedCluster(
                entry=entry,
                base=table.where(~stand_in_N),
                targets=targets,
                deleted_T=np.array([name in deleted_ids for name in targets.sample_ids], bool),
                rest_shared=shared,
                rest_pooled=pooled,
                stored=specialists.get(entry.key),
                heads=heads,
            )
        )
    return found


def _drawn(seed: int, table: RowTable, count: int) -> np.ndarray:
    """A mask over the rows: so many of them, by a hash of their ids."""
    order = sorted(range(len(table)), key=lambda row: draw(seed, "stand-in", table.sample_ids[row]))
    chosen_N = np.zeros(len(table), bool)
    chosen_N[order[:count]] = True
    return chosen_N
