"""Retraining: one prompt and one head for all rows; each deletion makes them again from the start.

Exact by definition. Expected cost of deleting one of n rows, in row-passes: ``2 · epochs · (n - 1)`` for the tuning, as
many forward as backward, and ``n - 1`` forward for the head.

Legend: N rows, P pixels per side, C classes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lmeraser.baselines.part import Part, rows_without, tuning_row_passes
from lmeraser.learning.tuning import TuningRows, tune_prompt
from lmeraser.state.pipeline import Pipeline


@dataclass(frozen=True)
class Retraining:
    """All rows under one prompt.

    Attributes:
        pipeline: backbone, prompt, tuning and projection; its partition is not used.
        rows: the remaining rows, at least one.
        part: their prompt and head.
        as_ours: whether the prompt is tuned as a specialist's is, and not together with a linear head.
    """

    pipeline: Pipeline
    rows: TuningRows
    part: Part
    as_ours: bool = False

    @staticmethod
    def fit(pipeline: Pipeline, rows: TuningRows, as_ours: bool = False) -> Retraining:
        """Tune the prompt on all rows and solve the head."""
        prompt = pipeline.tuned(rows) if as_ours else tune_prompt(pipeline.backbone, pipeline.config, rows)
        return Retraining(pipeline, rows, Part.of(pipeline, prompt, rows), as_ours)

    def without(self, sample_ids: Collection[str]) -> Retraining:
        """Fit again on the remaining rows, unless none of these ids is known."""
        remaining = rows_without(self.rows, sample_ids)
        if len(remaining.labels_N) == len(self.rows.labels_N):
            return self
        return Retraining.fit(self.pipeline, remaining, self.as_ours)

    def row_passes_of(self, sample_ids: Collection[str]) -> float:
        """Row-passes of this deletion, forward and backward together, without rows that fill a batch."""
        removed = len(self._known.intersection(sample_ids))
        if removed == 0:
            return 0.0
        remaining = len(self._known) - removed
        return tuning_row_passes(self.pipeline, remaining) + remaining

    def scores(self, images_N3PP: np.ndarray) -> np.ndarray:
        """Scores, float64 [N, C], of uint8 images."""
        return self.part.scores(self.pipeline, images_N3PP)

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.rows.sample_ids)
