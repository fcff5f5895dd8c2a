"""Shared head only: no private prompt; a deletion subtracts its rows from exact sums.

Exact, and a deletion passes no row through the backbone, because the features of the rows are kept.

Legend: N rows, M some of the rows, P pixels per side, C classes, F raw head features, H head features.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np

from lmeraser.learning.heads import Head, Statistics, solve
from lmeraser.learning.numerics import deterministic
from lmeraser.learning.tuning import TuningRows
from lmeraser.state.pipeline import Pipeline

Depths = Literal["last", "several"]


@dataclass(frozen=True)
class SharedHeadOnly:
    """The closed-form head over features before any specialist.

    Attributes:
        pipeline: its backbone, public prompt and feature map are used; the map must be fitted on features of these
            depths.
        depths: "last" takes the class token and the mean patch token of the last block, "several" those of the quarter
            depths and the cells.
        statistics: sums over the remaining rows.
        index: position of a remaining row among the features, by sample id.
        features_NH: int16, of all rows that were fitted.
        labels_N: int64, their labels.
    """

    pipeline: Pipeline
    depths: Depths
    statistics: Statistics
    index: dict[str, int] = field(repr=False)
    features_NH: np.ndarray = field(repr=False)
    labels_N: np.ndarray = field(repr=False)

    @staticmethod
    def fit(pipeline: Pipeline, rows: TuningRows, depths: Depths = "several") -> SharedHeadOnly:
        """Pass all rows through the backbone once and sum their features."""
        features_NH = _features(pipeline, rows.images_N3PP, depths)
        with deterministic():
            statistics = Statistics.of(features_NH, rows.labels_N, len(pipeline.config.labels))
        index = {name: row for row, name in enumerate(rows.sample_ids)}
        return SharedHeadOnly(pipeline, depths, statistics, index, features_NH, rows.labels_N)

    def without(self, sample_ids: Collection[str]) -> SharedHeadOnly:
        """Subtract the rows with these ids; unknown ids are ignored."""
        removed = frozenset(sample_ids)
        index_M = [self.index[name] for name in sorted(removed) if name in self.index]
        with deterministic():
            part = Statistics.of(self.features_NH[index_M], self.labels_N[index_M], len(self.statistics.counts_C))
        remaining = {name: row for name, row in self.index.items() if name not in removed}
        return replace(self, statistics=self.statistics - part, index=remaining)

    def row_passes_of(self, sample_ids: Collection[str]) -> float:  # noqa: ARG002 - other methods need it
        """0: no row passes through the backbone."""
        return 0.0

    @cached_property
    def head(self) -> Head:
        """Solved on the remaining rows."""
        with deterministic():
            return solve(self.statistics)

    def scores(self, images_N3PP: np.ndarray) -> np.ndarray:
        """Scores, float64 [N, C], of uint8 images."""
        return self.head.scores(_features(self.pipeline, images_N3PP, self.depths))


def raw_features(pipeline: Pipeline, images_N3PP: np.ndarray, depths: Depths) -> np.ndarray:
    """Raw head features, float32 [N, F], of these depths, as a feature map is fitted on them."""
    _, head_NF = pipeline.plain(images_N3PP)
    # The last columns are class token and mean patch token of the last block.
    return head_NF[:, -2 * pipeline.backbone.width :] if depths == "last" else head_NF


def _features(pipeline: Pipeline, images_N3PP: np.ndarray, depths: Depths) -> np.ndarray:
    raw_NF = raw_features(pipeline, images_N3PP, depths)
    with deterministic():
        return pipeline.feature_map.project(raw_NF)
