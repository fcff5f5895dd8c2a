"""Our own method in one process, without store, log and owners, so that it can be measured like the others.

Deleting a row outside its cluster's coreset passes no row through the backbone. Deleting one of the coreset tunes the
prompt again on the m rows of the coreset, and passes the k - 1 remaining rows of the cluster once under it:
``m · (2 · epochs · (L - r) / L + r / L) + k - 1`` row-passes for a prompt that enters at block r of L. In expectation
over one of n rows: the sum of m / n times that over the clusters that have a specialist.
:meth:`ClusterPrompts.row_passes_of` computes the cost for given rows, including that of clusters which change because
the partition does.

Legend: N rows, A anchors, P pixels per side, C classes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch

from lmeraser.baselines.part import tuning_row_passes
from lmeraser.learning.heads import Statistics
from lmeraser.learning.numerics import deterministic
from lmeraser.learning.partition import Partition
from lmeraser.proof.recompute import members
from lmeraser.state.heads_state import HeadsState
from lmeraser.state.pipeline import Pipeline
from lmeraser.state.rows import RowTable
from lmeraser.state.specialist import Specialist


@dataclass(frozen=True)
class Answers:
    """Scores of N images by each head.

    Attributes:
        shared_NC, pooled_NC: float64; pooled scores are zero where no specialist answers.
        specialist_N: bool, whether a specialist answers.
    """

    shared_NC: np.ndarray
    pooled_NC: np.ndarray
    specialist_N: np.ndarray


@dataclass(frozen=True)
class ClusterPrompts:
    """Prompt clusters with their specialists, and both heads.

    Attributes:
        pipeline: over public artifacts.
        table: the remaining rows.
        partition: their prompt clusters.
        clusters: rows by cluster key.
        specialists: by cluster key; clusters with fewer rows than ``min_tuned_rows`` have none.
    """

    pipeline: Pipeline
    table: RowTable
    partition: Partition
    clusters: dict[str, RowTable] = field(repr=False)
    specialists: dict[str, Specialist] = field(repr=False)

    @staticmethod
    def fit(pipeline: Pipeline, table: RowTable) -> ClusterPrompts:
        """Partition the rows, and tune every cluster that is large enough.

        Args:
            pipeline: over public artifacts.
            table: the rows.
        """
        partition, clusters = _clusters(pipeline, table)
        specialists = {key: pipeline.specialist(rows) for key, rows in clusters.items() if _tunes(pipeline, rows)}
        return ClusterPrompts(pipeline, table, partition, clusters, specialists)

    def without(self, sample_ids: Collection[str]) -> ClusterPrompts:
        """Partition again, and tune only the clusters whose region or coreset changed."""
        pipeline, table = self.pipeline, self.table.where(_remains(self.table, sample_ids))
        partition, clusters = _clusters(pipeline, table)
        kept = self._with_prompts_kept(sample_ids)
        specialists = {
            key: self._without_features(key, sample_ids) if key in kept else pipeline.specialist(rows)
            for key, rows in clusters.items()
            if _tunes(pipeline, rows)
        }
        return ClusterPrompts(pipeline, table, partition, clusters, specialists)

    def row_passes_of(self, sample_ids: Collection[str]) -> float:
        """Row-passes until this deletion is completed, forward and backward together; until it is erased, 0."""
        remains_N = _remains(self.table, sample_ids)
        with deterministic():
            partition = self.pipeline.partition(self.table.anchors_N[remains_N], self._bits_of_rows[remains_N])
        kept = self._with_prompts_kept(sample_ids)
        config = self.pipeline.config
        rows = [
            cluster.rows for cluster in partition.clusters if config.tunes(cluster.rows) and cluster.key not in kept
        ]
        return sum(tuning_row_passes(self.pipeline, min(count, config.tuning.coreset_rows)) + count for count in rows)

    def row_passes_of_each(self) -> np.ndarray:
        """Row-passes of deleting each row alone, float64 [N], in the order of the table.

        The partition depends on counts only, so rows of a cluster cost the same if they are all in its coreset, or all
        outside.
        """
        cost_of: dict[str, float] = {}
        for key, rows in self.clusters.items():
            in_coreset = self._coresets.get(key, frozenset())
            inside = [name for name in rows.sample_ids if name in in_coreset]
            outside = [name for name in rows.sample_ids if name not in in_coreset]
            for names in (inside, outside):
                if names:
                    cost_of.update(dict.fromkeys(names, self.row_passes_of(names[:1])))
        return np.array([cost_of[name] for name in self.table.sample_ids])

    @cached_property
    def heads(self) -> HeadsState:
        """Shared and pooled head."""
        nothing = Statistics.zero(self.table.features_NH.shape[1], len(self.pipeline.config.labels))
        with deterministic():
            shared = Statistics.of_all([self.table], nothing)
            return HeadsState.of(shared, Statistics.of_all(self.specialists.values(), nothing))

    def answers(self, images_N3PP: np.ndarray) -> Answers:
        """Scores of uint8 images by both heads, each image with the prompt of its own cluster."""
        pipeline = self.pipeline
        routing_NR, head_NF = pipeline.plain(images_N3PP)
        with deterministic():
            shared_NC = self.heads.solved.shared.scores(pipeline.feature_map.project(head_NF))
        key_N = self._answering[pipeline.anchor_index.nearest(routing_NR)]
        pooled_NC = np.zeros_like(shared_NC)
        for key, specialist in self.specialists.items():
            index_M = np.flatnonzero(key_N == key)
            if len(index_M) == 0:
                continue
            features_MH = pipeline.prompted(images_N3PP[index_M], torch.from_numpy(specialist.prompt))
            with deterministic():
                pooled_NC[index_M] = self.heads.solved.pooled.scores(features_MH)
        return Answers(shared_NC, pooled_NC, key_N != "")

    @cached_property
    def _answering(self) -> np.ndarray:
        """Key of the specialist that answers at each anchor, [A]: where several share it, the one with most rows."""
        key_A = np.full(self.pipeline.dendrogram.anchors, "", object)
        order = sorted(
            (cluster for cluster in self.partition.clusters if cluster.key in self.specialists),
            key=lambda cluster: (cluster.rows, -int(cluster.key, 16)),
        )
        for cluster in order:
            key_A[list(cluster.region.anchors)] = cluster.key
        return key_A

    @cached_property
    def _bits_of_rows(self) -> np.ndarray:
        return self.table.bits(self.pipeline.config.seed)

    @cached_property
    def _coresets(self) -> dict[str, frozenset[str]]:
        """Sample ids of the coreset of each cluster that has a specialist."""
        return {key: frozenset(self.pipeline.coreset(self.clusters[key]).sample_ids) for key in self.specialists}

    def _with_prompts_kept(self, sample_ids: Collection[str]) -> set[str]:
        """Clusters with a specialist whose coreset stays as it is when these rows are deleted."""
        return {key for key, names in self._coresets.items() if names.isdisjoint(sample_ids)}

    def _without_features(self, key: str, sample_ids: Collection[str]) -> Specialist:
        """A cluster's specialist without the features of these rows."""
        specialist, remains_N = self.specialists[key], _remains(self.clusters[key], sample_ids)
        return Specialist(specialist.prompt, specialist.features_NH[remains_N], specialist.labels_N[remains_N])


def _clusters(pipeline: Pipeline, table: RowTable) -> tuple[Partition, dict[str, RowTable]]:
    bits_N = table.bits(pipeline.config.seed)
    with deterministic():
        partition = pipeline.partition(table.anchors_N, bits_N)
    return partition, members(partition, table, bits_N)


def _remains(table: RowTable, sample_ids: Collection[str]) -> np.ndarray:
    """Which rows remain when those with these ids are deleted, bool [N]."""
    removed = frozenset(sample_ids)
    return np.array([name not in removed for name in table.sample_ids], bool)


def _tunes(pipeline: Pipeline, rows: RowTable) -> bool:
    return pipeline.config.tunes(len(rows))
