"""Counted costs against arithmetic by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_system import SIDE, VIT, System, samples

from lmeraser.baselines import Cost, measured
from lmeraser.learning.tuning import TuningRows, tune_prompt
from lmeraser.state.pipeline import Pipeline, extract_head

BLOCKS, WIDTH, PATCH_PX = VIT.model_args["depth"], VIT.model_args["embed_dim"], 16
TOKENS = 1 + (SIDE // PATCH_PX) ** 2


def rows_of(pipeline: Pipeline, count: int) -> TuningRows:
    rows = samples(0, count)
    images_N3PP = pipeline.decode([row.image for row in rows])
    return TuningRows(tuple(row.sample_id for row in rows), images_N3PP, np.array([row.label for row in rows]))


def operations(tokens: int) -> int:
    """Of one row in one block: 12 D² weights per token, and two products of tokens with tokens."""
    return 2 * tokens * 12 * WIDTH**2 + 2 * 2 * tokens**2 * WIDTH


def test_an_extraction_counts_its_padding_and_nothing_backward(built: Callable[[str, int], System]) -> None:
    pipeline = built("token", 0).pipeline()
    images_N3PP = rows_of(pipeline, 10).images_N3PP
    head_NF, cost = measured(pipeline.backbone, lambda: extract_head(pipeline.backbone, images_N3PP, 4))
    assert head_NF.shape[0] == 10
    assert (cost.forward_row_passes, cost.backward_row_passes) == (12, 0)
    assert cost.flops == 12 * BLOCKS * operations(TOKENS)
    assert cost.wall_s > 0 and cost.processor_s > 0
    assert cost.peak_bytes > 10_000_000


def test_a_tuning_counts_as_many_rows_backward_as_forward(built: Callable[[str, int], System]) -> None:
    pipeline = built("token", 0).pipeline()
    config = replace(pipeline.config, tuning=replace(pipeline.config.tuning, epochs=3, batch_rows=4))
    _, cost = measured(pipeline.backbone, lambda: tune_prompt(pipeline.backbone, config, rows_of(pipeline, 10)))
    assert (cost.forward_row_passes, cost.backward_row_passes) == (36, 36)
    forward = 36 * BLOCKS * operations(TOKENS + 2)
    # With frozen weights, backward has the same products, except in attention, where each factor has a gradient.
    assert 2 * forward < cost.flops < 2.5 * forward


def test_blocks_below_the_prompt_count_once_for_each_row(built: Callable[[str, int], System]) -> None:
    pipeline = built("deep", 0).pipeline()
    config = replace(pipeline.config, tuning=replace(pipeline.config.tuning, epochs=3, batch_rows=5))
    _, cost = measured(pipeline.backbone, lambda: tune_prompt(pipeline.backbone, config, rows_of(pipeline, 10)))
    assert (cost.forward_row_passes, cost.backward_row_passes) == (10 / 2 + 30 / 2, 30 / 2)


@pytest.mark.slow
def test_a_convolutional_network_is_counted_too(built: Callable[[str, int], System]) -> None:
    pipeline = built("conv", 0).pipeline()
    _, cost = measured(pipeline.backbone, lambda: extract_head(pipeline.backbone, rows_of(pipeline, 8).images_N3PP, 8))
    assert (cost.forward_row_passes, cost.backward_row_passes) == (8, 0)


def test_nothing_is_counted_after_the_work_or_when_it_failed(built: Callable[[str, int], System]) -> None:
    pipeline = built("token", 0).pipeline()

    def fail() -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        measured(pipeline.backbone, fail)
    blocks = pipeline.backbone.model.get_submodule("blocks")
    assert all(not block._forward_hooks for block in blocks.children())
    with torch.no_grad():
        _, cost = measured(pipeline.backbone, lambda: None)
    assert cost.row_passes == 0


def test_costs_add_up_but_the_peak_is_the_greater() -> None:
    assert Cost(1, 2, 3, 4, 5, 6) + Cost(10, 20, 30, 40, 50, 5) == Cost(11, 22, 33, 44, 55, 6)
