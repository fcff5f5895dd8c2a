"""Our own method in one process, without store, log and owners, so that it can be measured like the others.

Expected cost of deleting one of n rows, in row-passes, over the clusters that have a specialist, p their shares of the
rows: ``Σ p · (n p - 1) · (2 · epochs · (L - r) / L + r / L + 1)`` for a prompt that enters at block r of L; the last 1
is the pass that gives the rows their prompted features. :meth:`ClusterPrompts.row_passes_of` computes the cost for
given rows, including that of clusters which change because the partition does.

Legend: N rows, A anchors, P pixels per side, C classes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch

from lmeraser.baselines.part import prompted_features, tuning_row_passes
from lmeraser.learning.heads import Head, Statistics, solve
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
        own_NC: float64, of a head on the rows of the image's own cluster alone; zero where no specialist answers.
        specialist_N: bool, whether a specialist answers.
    """

    shared_NC: np.ndarray
    pooled_NC: np.ndarray
    own_NC: np.ndarray
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
    def fit(
        pipeline: Pipeline, table: RowTable, known: dict[str, tuple[RowTable, Specialist]] | None = None
    ) -> ClusterPrompts:
        """Partition the rows, and tune the clusters for which ``known`` has no specialist of the same rows.

        Args:
            pipeline: over public artifacts.
            table: the rows.
            known: specialists with the rows that they were tuned on, by cluster key.
        """
        partition, clusters = _clusters(pipeline, table)
        specialists: dict[str, Specialist] = {}
        for key, rows in clusters.items():
            if not pipeline.config.tunes(len(rows)):
                continue
            known_rows, specialist = (known or {}).get(key, (None, None))
            unchanged = known_rows is not None and known_rows.sample_ids == rows.sample_ids
            specialists[key] = specialist if specialist is not None and unchanged else pipeline.specialist(rows)
        return ClusterPrompts(pipeline, table, partition, clusters, specialists)

    def without(self, sample_ids: Collection[str]) -> ClusterPrompts:
        """Partition again, and tune only the clusters that changed."""
        known = {key: (self.clusters[key], specialist) for key, specialist in self.specialists.items()}
        return ClusterPrompts.fit(self.pipeline, self.table.where(self._remains(sample_ids)), known)

    def row_passes_of(self, sample_ids: Collection[str]) -> float:
        """Row-passes until this deletion is completed, forward and backward together; until it is erased, 0."""
        remains_N = self._remains(sample_ids)
        with deterministic():
            partition = self.pipeline.partition(self.table.anchors_N[remains_N], self._bits_of_rows[remains_N])
        unchanged = self.clusters.keys() - {self._cluster_of.get(name) for name in sample_ids}
        rows = [
            cluster.rows
            for cluster in partition.clusters
            if self.pipeline.config.tunes(cluster.rows) and cluster.key not in unchanged
        ]
        return sum(tuning_row_passes(self.pipeline, count) + count for count in rows)

    @cached_property
    def heads(self) -> HeadsState:
        """Shared and pooled head."""
        nothing = Statistics.zero(self.table.features_NH.shape[1], len(self.pipeline.config.labels))
        with deterministic():
            shared = Statistics.of_all([self.table], nothing)
            return HeadsState.of(shared, Statistics.of_all(self.specialists.values(), nothing))

    @cached_property
    def own_heads(self) -> dict[str, Head]:
        """A head on the rows of each cluster alone, by cluster key, for comparison with the pooled head."""
        classes = len(self.pipeline.config.labels)
        with deterministic():
            return {
                key: solve(Statistics.of(specialist.features_NH, specialist.labels_N, classes))
                for key, specialist in self.specialists.items()
            }

    def answers(self, images_N3PP: np.ndarray, own: bool = False) -> Answers:
        """Scores of uint8 images, each with the prompt of its own cluster; ``own`` adds the clusters' own heads."""
        pipeline = self.pipeline
        routing_NR, head_NF = pipeline.plain(images_N3PP)
        with deterministic():
            shared_NC = self.heads.shared_head.scores(pipeline.feature_map.project(head_NF))
        key_N = self._answering[pipeline.anchor_index.nearest(routing_NR)]
        pooled_NC, own_NC = np.zeros_like(shared_NC), np.zeros_like(shared_NC)
        for key, specialist in self.specialists.items():
            index_M = np.flatnonzero(key_N == key)
            if len(index_M) == 0:
                continue
            features_MH = prompted_features(pipeline, torch.from_numpy(specialist.prompt), images_N3PP[index_M])
            with deterministic():
                pooled_NC[index_M] = self.heads.pooled_head.scores(features_MH)
                if own:
                    own_NC[index_M] = self.own_heads[key].scores(features_MH)
        return Answers(shared_NC, pooled_NC, own_NC, key_N != "")

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
    def _cluster_of(self) -> dict[str, str]:
        return {name: key for key, rows in self.clusters.items() for name in rows.sample_ids}

    def _remains(self, sample_ids: Collection[str]) -> np.ndarray:
        removed = frozenset(sample_ids)
        return np.array([name not in removed for name in self.table.sample_ids], bool)


def _clusters(pipeline: Pipeline, table: RowTable) -> tuple[Partition, dict[str, RowTable]]:
    bits_N = table.bits(pipeline.config.seed)
    with deterministic():
        partition = pipeline.partition(table.anchors_N, bits_N)
    return partition, members(partition, table, bits_N)
