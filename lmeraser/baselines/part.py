"""A prompt and a closed-form head over some rows: one shard of SISA, or all rows for retraining.

Legend: N rows, P pixels per side, C classes, H head features.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from lmeraser.learning.backbone import VitBackbone
from lmeraser.learning.heads import Head, Statistics, solve
from lmeraser.learning.numerics import deterministic
from lmeraser.learning.tuning import TuningRows
from lmeraser.state.pipeline import Pipeline


@dataclass(frozen=True)
class Part:
    """A prompt and the closed-form head over features under it.

    Attributes:
        prompt: float32, one prompt.
        head: solved on the rows' prompted features.
    """

    prompt: Tensor
    head: Head

    @staticmethod
    def of(pipeline: Pipeline, prompt: Tensor, rows: TuningRows) -> Part:
        """Compute the rows' features under the prompt, and solve the head."""
        features_NH = pipeline.prompted(rows.images_N3PP, prompt)
        with deterministic():
            return Part(prompt, solve(Statistics.of(features_NH, rows.labels_N, len(pipeline.config.labels))))

    def scores(self, pipeline: Pipeline, images_N3PP: np.ndarray) -> np.ndarray:
        """Scores of the head, float64 [N, C], of uint8 images."""
        return self.head.scores(pipeline.prompted(images_N3PP, self.prompt))


def rows_at(rows: TuningRows, index_M: np.ndarray) -> TuningRows:
    """Some of the rows, by index."""
    ids = tuple(rows.sample_ids[index] for index in index_M.tolist())
    return TuningRows(ids, rows.images_N3PP[index_M], rows.labels_N[index_M])


def rows_without(rows: TuningRows, sample_ids: Collection[str]) -> TuningRows:
    """The rows whose ids are not among these."""
    removed = frozenset(sample_ids)
    return rows_at(rows, np.flatnonzero([name not in removed for name in rows.sample_ids]))


def tuning_row_passes(pipeline: Pipeline, rows: int, epochs: int | None = None) -> float:
    """Row-passes of one tuning: each epoch goes forward and backward through the blocks above the prompt.

    For n rows and a prompt that enters at block r of L: ``2 · epochs · n · (L - r) / L``, and once ``n · r / L`` for
    the blocks below it.
    """
    kind, backbone = pipeline.prompt_kind, pipeline.backbone
    below = kind.enters_at / backbone.block_count if isinstance(backbone, VitBackbone) else 0.0
    epochs = pipeline.config.tuning.epochs if epochs is None else epochs
    return rows * (2 * epochs * (1 - below) + below)
