"""Ridge only: the shared head and no private prompt; a deletion subtracts its rows from exact sums.

Exact, and no row passes the backbone for a deletion: the features of a row are kept beside it.

Legend: N rows, P pixels a side, C classes, F raw head features, H head features, R routing features.
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
        method: its backbone, public prompt and feature map are used; the map must be fitted on features of these
            depths.
        depths: "last" takes the class token and the mean patch token of the last block, "several" those of the
            quarter depths and the cells.
        statistics: sums over the rows that are left.
        places: where a row's features stand, by sample id.
        features_NH: int16, of all rows that ever came.
        labels_N: int64, their labels.
    """

    pipeline: Pipeline
    depths: Depths
    statistics: Statistics
    places: dict[str, int] = field(repr=False)
    features_NH: np.ndarray = field(repr=False)
    labels_N: np.ndarray = field(repr=False)

    @staticmethod
    def fit(pipeline: Pipeline, rows: TuningRows, depths: Depths = "several") -> SharedHeadOnly:
        """Pass all rows once through the backbone and add them up."""
        features_NH = _features(pipeline, rows.images_N3PP, depths)
        with deterministic():
            statistics = Statistics.of(features_NH, rows.labels_N, len(pipeline.config.labels))
        places = {name: place for place, name in enumerate(rows.sample_ids)}
        return SharedHeadOnly(pipeline, depths, statistics, places, features_NH, rows.labels_N)

    def without(self, sample_ids: Collection[str]) -> SharedHeadOnly:
        """Subtract the rows with these ids; unknown ones are passed over."""
        gone = frozenset(sample_ids)
        places = [self.places[name] for name in sorted(gone) if name in self.places]
        with deterministic():
            part = Statistics.of(self.features_NH[places], self.labels_N[places], len(self.statistics.counts_C))
        left = {name: place for name, place in self.places.items() if name not in gone}
        return replace(self, statistics=self.statistics - part, places=left)

    def row_passes_of(self, sample_ids: Collection[str]) -> float:  # noqa: ARG002 - every baseline is asked alike
        """No row passes the backbone."""
        return 0.0

    @cached_property
    def head(self) -> Head:
        """Solved on the rows that are left."""
        with deterministic():
            return solve(self.statistics)

    def scores(self, images_N3PP: np.ndarray) -> np.ndarray:
        """Scores, float64 [N, C], of uint8 images."""
        return self.head.scores(_features(self.pipeline, images_N3PP, self.depths))


def raw_features(pipeline: Pipeline, images_N3PP: np.ndarray, depths: Depths) -> np.ndarray:
    """Raw head features, float32 [N, F], of these depths: what a feature map is fitted on."""
    routing_NR, head_NF = pipeline.plain(images_N3PP)
    # Class token and mean patch token of the last block stand at the end.
    return head_NF[:, -2 * routing_NR.shape[1] :] if depths == "last" else head_NF


def _features(pipeline: Pipeline, images_N3PP: np.ndarray, depths: Depths) -> np.ndarray:
    raw_NF = raw_features(pipeline, images_N3PP, depths)
    with deterministic():
        return pipeline.feature_map.project(raw_NF)
