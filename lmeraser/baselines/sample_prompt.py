"""One prompt for all rows, tuned on a sample of them as ours are; one head over all rows: the rival ours grew from.

The sample is the m rows with the lowest hashes of their sample ids, whatever their classes, and there are no clusters.
The tuning starts from the public prompt and is for the closed-form head. A deletion of any other row subtracts it from
the head's sums. A deletion of one of the m rows moves the next row into the sample, tunes the prompt again and passes
every row through the backbone. Exact: prompt and sums follow from the remaining rows.

Expected cost of deleting one of n rows, in row-passes: ``m / n · (2 · epochs · m + n - 1)``, which tends to m as n
grows. The most expensive row costs ``2 · epochs · m + n - 1``, which no bound on a cluster's rows limits.

Legend: N rows, P pixels per side, C classes, H head features.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from torch import Tensor

from lmeraser.baselines.part import rows_at, rows_without, tuning_row_passes
from lmeraser.hashing import draw_uint64
from lmeraser.learning.heads import Head, Statistics, solve
from lmeraser.learning.numerics import deterministic
from lmeraser.learning.tuning import TuningRows
from lmeraser.state.pipeline import Pipeline


@dataclass(frozen=True)
class SamplePrompt:
    """All rows under a prompt that is tuned on a sample of them.

    Attributes:
        pipeline: backbone, prompt, tuning and projection; its partition is not used.
        tuned_rows: m, how many rows are in the sample.
        rows: the remaining rows.
        prompt: tuned on the sample.
        features_NH: int16, prompted features of the rows.
        statistics: sums over them.
    """

    pipeline: Pipeline
    tuned_rows: int
    rows: TuningRows = field(repr=False)
    prompt: Tensor = field(repr=False)
    features_NH: np.ndarray = field(repr=False)
    statistics: Statistics = field(repr=False)

    @staticmethod
    def fit(pipeline: Pipeline, rows: TuningRows, tuned_rows: int) -> SamplePrompt:
        """Tune the prompt on the sample, and sum the features of all rows under it."""
        sample = sorted(range(len(rows.sample_ids)), key=lambda row: _rank(pipeline, rows.sample_ids[row]))[:tuned_rows]
        prompt = pipeline.tuned(rows_at(rows, np.array(sorted(sample))))
        features_NH = pipeline.prompted(rows.images_N3PP, prompt)
        with deterministic():
            statistics = Statistics.of(features_NH, rows.labels_N, len(pipeline.config.labels))
        return SamplePrompt(pipeline, tuned_rows, rows, prompt, features_NH, statistics)

    def without(self, sample_ids: Collection[str]) -> SamplePrompt:
        """Subtract the rows, or fit again where one of them is in the sample."""
        remaining = rows_without(self.rows, sample_ids)
        if self._sample.intersection(sample_ids):
            return SamplePrompt.fit(self.pipeline, remaining, self.tuned_rows)
        removed = frozenset(sample_ids)
        removed_N = np.array([name in removed for name in self.rows.sample_ids], bool)
        with deterministic():
            classes = len(self.pipeline.config.labels)
            part = Statistics.of(self.features_NH[removed_N], self.rows.labels_N[removed_N], classes)
        features_NH = self.features_NH[~removed_N]
        return replace(self, rows=remaining, features_NH=features_NH, statistics=self.statistics - part)

    def row_passes_of(self, sample_ids: Collection[str]) -> float:
        """Row-passes of this deletion, forward and backward together, without rows that fill up a batch."""
        if not self._sample.intersection(sample_ids):
            return 0.0
        remaining = len(set(self.rows.sample_ids).difference(sample_ids))
        return tuning_row_passes(self.pipeline, min(remaining, self.tuned_rows)) + remaining

    @cached_property
    def head(self) -> Head:
        """Solved on the remaining rows."""
        with deterministic():
            return solve(self.statistics)

    def scores(self, images_N3PP: np.ndarray) -> np.ndarray:
        """Scores, float64 [N, C], of uint8 images."""
        return self.head.scores(self.pipeline.prompted(images_N3PP, self.prompt))

    @cached_property
    def _sample(self) -> frozenset[str]:
        order = sorted(self.rows.sample_ids, key=lambda name: _rank(self.pipeline, name))
        return frozenset(order[: self.tuned_rows])


def _rank(pipeline: Pipeline, sample_id: str) -> int:
    return draw_uint64(pipeline.config.seed, "sampled", sample_id)
