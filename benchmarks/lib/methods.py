"""The methods that are compared, by name, each fitted with the options of its run.

Legend: N rows, P pixels per side, F raw head features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.lib.settings import Setting
from lmeraser.baselines import (
    ClusterPrompts,
    PublishedConfig,
    PublishedLMEraser,
    Retraining,
    SamplePrompt,
    SharedHeadOnly,
    Sisa,
)
from lmeraser.baselines.shared_head_only import raw_features
from lmeraser.data import Sample, open_source
from lmeraser.hashing import draw
from lmeraser.learning.feature_map import FeatureMap
from lmeraser.learning.numerics import deterministic
from lmeraser.learning.tuning import TuningRows
from lmeraser.state.pipeline import Pipeline

Fit = ClusterPrompts | PublishedLMEraser | Retraining | SamplePrompt | SharedHeadOnly | Sisa

_PUBLIC_ROWS_OF_A_MAP = 4000
# The published frame is 30 of 224 pixels.
_PUBLISHED_FRAME = 30 / 224


@dataclass(frozen=True)
class Run:
    """A method with its options.

    Attributes:
        method: a key of ``METHODS``.
        options: what differs from the setting's configuration, and what the method itself asks for.
    """

    method: str
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """Method and options in one word."""
        return "-".join([self.method, *(f"{key}_{value}" for key, value in self.options)])

    def __getitem__(self, key: str) -> Any:
        return dict(self.options)[key]

    def get(self, key: str, default: Any) -> Any:
        """An option, or the default."""
        return dict(self.options).get(key, default)


def fit(run: Run, pipeline: Pipeline, setting: Setting, train: list[Sample]) -> Fit:
    """The run's method, fitted to the training rows."""
    return METHODS[run.method](run, pipeline, setting, train)


def _ours(_run: Run, pipeline: Pipeline, _setting: Setting, train: list[Sample]) -> Fit:
    return ClusterPrompts.fit(pipeline, pipeline.rows(train))


def _retrain(run: Run, pipeline: Pipeline, _setting: Setting, train: list[Sample]) -> Fit:
    return Retraining.fit(pipeline, _tuning_rows(pipeline, train), run.get("tuned", "") == "as_ours")


def _sisa(run: Run, pipeline: Pipeline, _setting: Setting, train: list[Sample]) -> Fit:
    return Sisa.fit(pipeline, _tuning_rows(pipeline, train), run["shards"], run["slices"])


def _sampled(run: Run, pipeline: Pipeline, _setting: Setting, train: list[Sample]) -> Fit:
    return SamplePrompt.fit(pipeline, _tuning_rows(pipeline, train), run["tuned_rows"])


def _shared_head_only(run: Run, pipeline: Pipeline, setting: Setting, train: list[Sample]) -> Fit:
    rows = _tuning_rows(pipeline, train)
    if run["depths"] == "last":
        pipeline = replace(pipeline, feature_map=_map_of_last_block(pipeline, setting))
    return SharedHeadOnly.fit(pipeline, rows, run["depths"])


def _published(run: Run, pipeline: Pipeline, _setting: Setting, train: list[Sample]) -> Fit:
    tuning = pipeline.config.tuning
    pad_px = round(pipeline.backbone.image_px * _PUBLISHED_FRAME)
    config = PublishedConfig(run["clusters"], tuning.epochs, pad_px, tuning.batch_rows, run["rate"])
    # The first rows are the first in the order of a hash, as in a shuffled loader.
    order = sorted(train, key=lambda sample: draw(pipeline.config.seed, "loader", sample.sample_id))
    return PublishedLMEraser.fit(pipeline, config, _tuning_rows(pipeline, order))


METHODS: dict[str, Callable[[Run, Pipeline, Setting, list[Sample]], Fit]] = {
    "ours": _ours,
    "retrain": _retrain,
    "sisa": _sisa,
    "sampled": _sampled,
    # Results were kept under this name before its head was a discriminant.
    "ridge": _shared_head_only,
    "published": _published,
}


def _tuning_rows(pipeline: Pipeline, samples: list[Sample]) -> TuningRows:
    return TuningRows(
        tuple(sample.sample_id for sample in samples),
        pipeline.decode([sample.image for sample in samples]),
        np.array([sample.label for sample in samples]),
    )


def _map_of_last_block(pipeline: Pipeline, setting: Setting) -> FeatureMap:
    public = open_source(replace(setting.config.public, max_rows=_PUBLIC_ROWS_OF_A_MAP))
    images_N3PP = pipeline.decode([sample.image for sample in public.samples(public.labels)])
    raw_NF = raw_features(pipeline, images_N3PP, "last")
    with deterministic():
        return FeatureMap.fit(raw_NF, pipeline.config.heads.head_dim)
