"""Ridge only: the shared head and no prompt at all; a deletion subtracts its rows from exact sums.

Exact, and no row passes the backbone for a deletion: the features of a row are kept beside it.

Legend: N rows, P pixels a side, C classes, F raw head features, H head features, R routing features.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from lmeraser.backbone import Backbone
from lmeraser.feature_map import FeatureMap
from lmeraser.heads import Head, Statistics, solve
from lmeraser.method import extract
from lmeraser.numerics import deterministic
from lmeraser.tuning import TuningRows

Depths = Literal["last", "several"]


@dataclass(frozen=True)
class RidgeOnly:
    """The closed-form head over un-prompted features.

    Attributes:
        backbone: frozen.
        feature_map: raw features of these depths to the grid; fitted on public rows.
        depths: "last" takes the class token and the mean patch token of the last block, "several" those of the
            quarter depths.
        feature_batch: rows in one batch of the extraction.
        statistics: sums over the rows that are left.
        places: where a row's features stand, by sample id.
        features_NH: int16, of all rows that ever came.
        labels_N: int64, their labels.
    """

    backbone: Backbone
    feature_map: FeatureMap
    depths: Depths
    feature_batch: int
    statistics: Statistics
    places: dict[str, int] = field(repr=False)
    features_NH: np.ndarray = field(repr=False)
    labels_N: np.ndarray = field(repr=False)

    @staticmethod
    def fit(
        backbone: Backbone,
        feature_map: FeatureMap,
        rows: TuningRows,
        classes: int,
        depths: Depths = "several",
        feature_batch: int = 32,
    ) -> RidgeOnly:
        """Pass all rows once through the backbone and add them up."""
        features_NH = plain_features(backbone, feature_map, rows.images_N3PP, depths, feature_batch)
        with deterministic():
            statistics = Statistics.of(features_NH, rows.labels_N, classes)
        places = {name: place for place, name in enumerate(rows.sample_ids)}
        return RidgeOnly(backbone, feature_map, depths, feature_batch, statistics, places, features_NH, rows.labels_N)

    def without(self, sample_ids: Collection[str]) -> RidgeOnly:
        """Subtract the rows with these ids; unknown ones are passed over."""
        gone = frozenset(sample_ids)
        places = [self.places[name] for name in sorted(gone) if name in self.places]
        with deterministic():
            part = Statistics.of(self.features_NH[places], self.labels_N[places], len(self.statistics.counts_C))
        left = {name: place for name, place in self.places.items() if name not in gone}
        return RidgeOnly(
            self.backbone,
            self.feature_map,
            self.depths,
            self.feature_batch,
            self.statistics - part,
            left,
            self.features_NH,
            self.labels_N,
        )

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
        features_NH = plain_features(self.backbone, self.feature_map, images_N3PP, self.depths, self.feature_batch)
        return self.head.scores(features_NH)


def raw_features(backbone: Backbone, images_N3PP: np.ndarray, depths: Depths, batch: int) -> np.ndarray:
    """Raw head features, float32 [N, F], of these depths: what a feature map is fitted on."""
    routing_NR, head_NF = extract(backbone, images_N3PP, batch)
    # Class token and mean patch token of the last block stand at the end.
    return head_NF[:, -2 * routing_NR.shape[1] :] if depths == "last" else head_NF


def plain_features(
    backbone: Backbone, feature_map: FeatureMap, images_N3PP: np.ndarray, depths: Depths, batch: int
) -> np.ndarray:
    """Un-prompted head features on the grid, int16 [N, H]."""
    raw_NF = raw_features(backbone, images_N3PP, depths, batch)
    with deterministic():
        return feature_map.project(raw_NF)
