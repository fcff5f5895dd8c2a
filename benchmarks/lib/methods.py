"""The methods that are compared, by name, each fitted with the options of its run.

Legend: N rows, P pixels per side, F raw head features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from benchmarks.lib.run import Run
from benchmarks.lib.settings import Setting
from benchmarks.lib.workload import Workload
from lmeraser.baselines import (
    ClusterPrompts,
    PublishedConfig,
    PublishedLMEraser,
    Retraining,
    SamplePrompt,
    SharedHeadOnly,
    Sisa,
)
from lmeraser.baselines.part import rows_at
from lmeraser.baselines.shared_head_only import raw_features
from lmeraser.data import open_source
from lmeraser.hashing import draw
from lmeraser.learning.feature_map import FeatureMap
from lmeraser.learning.numerics import deterministic
from lmeraser.state.pipeline import Pipeline

Fit = ClusterPrompts | PublishedLMEraser | Retraining | SamplePrompt | SharedHeadOnly | Sisa

_PUBLIC_ROWS_OF_A_MAP = 4000
# The published frame is 30 of 224 pixels.
_PUBLISHED_FRAME = 30 / 224


def fit(run: Run, workload: Workload) -> Fit:
    """The run's method, fitted to the private rows."""
    return METHODS[run.method](run, workload.pipeline_of(run), workload)


def _ours(_run: Run, pipeline: Pipeline, workload: Workload) -> Fit:
    return ClusterPrompts.fit(pipeline, workload.table)


def _retrain(run: Run, pipeline: Pipeline, workload: Workload) -> Fit:
    return Retraining.fit(pipeline, workload.tuning_rows, run.get("tuned", "") == "as_ours")


def _sisa(run: Run, pipeline: Pipeline, workload: Workload) -> Fit:
    return Sisa.fit(pipeline, workload.tuning_rows, run["shards"], run["slices"])


def _sampled(run: Run, pipeline: Pipeline, workload: Workload) -> Fit:
    return SamplePrompt.fit(pipeline, workload.tuning_rows, run["tuned_rows"])


def _shared_head_only(run: Run, pipeline: Pipeline, workload: Workload) -> Fit:
    if run["depths"] == "last":
        pipeline = replace(pipeline, feature_map=_map_of_last_block(pipeline, workload.setting))
    return SharedHeadOnly.fit(pipeline, workload.tuning_rows, run["depths"])


def _published(run: Run, pipeline: Pipeline, workload: Workload) -> Fit:
    tuning = pipeline.config.tuning
    pad_px = round(pipeline.backbone.image_px * _PUBLISHED_FRAME)
    config = PublishedConfig(run["clusters"], tuning.epochs, pad_px, tuning.batch_rows, run["rate"])
    # The first rows are the first in the order of a hash, as in a shuffled loader.
    ids = workload.tuning_rows.sample_ids
    order = sorted(range(len(ids)), key=lambda row: draw(pipeline.config.seed, "loader", ids[row]))
    return PublishedLMEraser.fit(pipeline, config, rows_at(workload.tuning_rows, np.array(order)))


METHODS: dict[str, Callable[[Run, Pipeline, Workload], Fit]] = {
    "ours": _ours,
    "retrain": _retrain,
    "sisa": _sisa,
    "sampled": _sampled,
    # Results were kept under this name before its head was a discriminant.
    "ridge": _shared_head_only,
    "published": _published,
}


def _map_of_last_block(pipeline: Pipeline, setting: Setting) -> FeatureMap:
    public = open_source(replace(setting.config.public, max_rows=_PUBLIC_ROWS_OF_A_MAP))
    images_N3PP = pipeline.decode([sample.image for sample in public.samples(public.labels)])
    raw_NF = raw_features(pipeline, images_N3PP, "last")
    with deterministic():
        return FeatureMap.fit(raw_NF, pipeline.config.heads.head_dim)
