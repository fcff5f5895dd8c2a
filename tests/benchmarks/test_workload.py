"""What runs share is what each would have computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import numpy as np
from small_system import System, samples

from benchmarks.lib.workload import RememberingPipeline
from lmeraser.baselines import measured
from lmeraser.state.pipeline import Pipeline


def test_plain_features_are_computed_once_for_each_image(built: Callable[[str, int], System]) -> None:
    pipeline = built("token", 0).pipeline()
    remembering = RememberingPipeline(**{each.name: getattr(pipeline, each.name) for each in fields(Pipeline)})
    images_N3PP = pipeline.decode(sample.image for sample in samples(0, 40))
    remembering.plain(images_N3PP[:10])
    shuffled_N = np.random.default_rng(0).permutation(40)
    for expected, remembered in zip(
        pipeline.plain(images_N3PP[shuffled_N]), remembering.plain(images_N3PP[shuffled_N]), strict=True
    ):
        assert np.array_equal(expected, remembered)
    _, cost = measured(pipeline.backbone, lambda: remembering.plain(images_N3PP))
    assert cost.row_passes == 0
    nothing = remembering.plain(images_N3PP[:0])
    assert [len(features) for features in nothing] == [0, 0]
