"""Retrain: one prompt and one head for all rows; each deletion tunes them again from the start.

Exact by definition. Expected cost of deleting one of n rows, in row-epochs: ``2 · epochs · (n - 1)`` for the tuning, as
many forward as backward, and ``n - 1`` forward for the head.

Legend: N rows, P pixels a side, C classes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from lmeraser.baselines.part import Part, rows_without, tuning_row_passes
from lmeraser.learning.tuning import TuningRows, tune_prompt
from lmeraser.state.pipeline import Pipeline


@dataclass(frozen=True)
class Retrain:
    """All rows under one prompt.

    Attributes:
        method: backbone, prompt, tuning and projection; its partition is not used.
        rows: the rows that are left; at least one.
        part: their prompt and head.
        as_ours: whether the prompt is tuned as a specialist's is, and not beside a linear head.
    """

    pipeline: Pipeline
    rows: TuningRows
    part: Part
    as_ours: bool = False

    @staticmethod
    def fit(pipeline: Pipeline, rows: TuningRows, as_ours: bool = False) -> Retrain:
        """Tune the prompt on all rows and solve the head."""
        prompt = pipeline.tuned(rows) if as_ours else tune_prompt(pipeline.backbone, pipeline.config, rows)
        return Retrain(pipeline, rows, Part.of(pipeline, prompt, rows), as_ours)

    def without(self, sample_ids: Collection[str]) -> Retrain:
        """Everything again on the rows that are left, if there was one of these."""
        left = rows_without(self.rows, sample_ids)
        return self if len(left.labels_N) == len(self.rows.labels_N) else Retrain.fit(self.pipeline, left, self.as_ours)

    def row_passes_of(self, sample_ids: Collection[str]) -> float:
        """Row-passes of this deletion, forward and backward together, without rows that fill a batch."""
        left = len(set(self.rows.sample_ids).difference(sample_ids))
        return 0.0 if left == len(self.rows.labels_N) else tuning_row_passes(self.pipeline, left) + left

    def scores(self, images_N3PP: np.ndarray) -> np.ndarray:
        """Scores, float64 [N, C], of uint8 images."""
        return self.part.scores(self.pipeline, images_N3PP)
