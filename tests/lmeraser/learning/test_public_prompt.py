"""The public prompt comes from public rows alone, and serves every row that has no specialist."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_system import System, samples

from lmeraser.config import StateConfig
from lmeraser.data import Sample
from lmeraser.learning.public_prompt import learn_public_prompt
from lmeraser.learning.tuning import TuningRows, tune_prompt
from lmeraser.state.pipeline import Pipeline
from lmeraser.state.pipeline_loading import open_pipeline
from lmeraser.state.public_fit import build_public


@pytest.fixture(scope="module", params=["token", "deep", "pad", "conv"])
def pipeline(request: pytest.FixtureRequest, built: Callable[[str, int], System]) -> Pipeline:
    return built(request.param, 0).pipeline()


def test_it_is_a_tuning_on_the_public_rows(pipeline: Pipeline) -> None:
    rows = samples(1000, 1096)
    images_N3PP = pipeline.decode([row.image for row in rows])
    tuning = TuningRows(tuple(row.sample_id for row in rows), images_N3PP, np.array([row.label for row in rows]))
    epochs = replace(pipeline.config.tuning, epochs=pipeline.config.prompt.public_epochs)
    expected = tune_prompt(pipeline.backbone, replace(pipeline.config, tuning=epochs), tuning)
    assert pipeline.public_prompt is not None
    assert torch.equal(pipeline.public_prompt, expected)
    assert not torch.equal(expected, pipeline.prompt_kind.start(pipeline.config.seed))


@pytest.mark.slow
def test_labels_need_not_start_at_zero_and_order_does_not_matter(pipeline: Pipeline) -> None:
    def learned(rows: list[Sample], config: StateConfig = pipeline.config) -> torch.Tensor:
        prompt = learn_public_prompt(pipeline.backbone, config, rows)
        assert prompt is not None
        return prompt

    rows = samples(1000, 1040)
    first = learned(rows)
    assert torch.equal(first, learned([replace(row, label=100 + 7 * row.label) for row in reversed(rows)]))
    fewer = replace(pipeline.config, prompt=replace(pipeline.config.prompt, public_rows=20))
    drawn = learned(rows, fewer)
    assert torch.equal(drawn, learned(rows[::-1], fewer))
    assert not torch.equal(drawn, first)


def test_a_specialist_starts_from_it(pipeline: Pipeline) -> None:
    slow = replace(
        pipeline, config=replace(pipeline.config, tuning=replace(pipeline.config.tuning, learning_rate=1e-9))
    )
    assert pipeline.public_prompt is not None
    prompt = slow.specialist(slow.rows(samples(0, 20))).prompt
    np.testing.assert_allclose(prompt, pipeline.public_prompt.numpy(), rtol=0, atol=1e-6)


def test_it_is_used_for_rows_before_any_specialist(pipeline: Pipeline) -> None:
    rows = samples(0, 12)
    pixels_N3PP = pipeline.backbone.normalise(torch.from_numpy(pipeline.decode([row.image for row in rows])))
    assert pipeline.public_prompt is not None
    with torch.no_grad():
        prompts_N = pipeline.public_prompt.to(pixels_N3PP).expand(12, *pipeline.public_prompt.shape)
        expected = pipeline.prompt_kind.features(pixels_N3PP, prompts_N)
        bare = pipeline.backbone.features_of_pixels(pixels_N3PP)
    table = pipeline.rows(rows)
    order = [[row.sample_id for row in rows].index(name) for name in table.sample_ids]
    projected_NH = pipeline.feature_map.project(expected.head_NF.cpu().numpy())[order]
    # Batches of another shape: a feature may be rounded to the next point of the grid.
    assert np.abs(table.features_NH.astype(int) - projected_NH).max() <= 1
    assert np.abs(pipeline.feature_map.project(bare.head_NF.cpu().numpy())[order].astype(int) - projected_NH).max() > 8


def test_with_zero_epochs_there_is_none(built: Callable[[str, int], System]) -> None:
    system = built("minute", 0)
    assert system.pipeline().public_prompt is None
    assert "prompt" not in system.manifest.public


def test_private_rows_do_not_contribute_to_it(built: Callable[[str, int], System]) -> None:
    before, after = (built("token", rows).manifest.public_digests["prompt"] for rows in (0, 60))
    assert before == after


@pytest.mark.slow
def test_it_lowers_the_loss_of_a_head_on_public_rows(pipeline: Pipeline) -> None:
    rows = samples(1000, 1096)
    epochs = replace(pipeline.config.prompt, public_epochs=12)
    config = replace(pipeline.config, prompt=epochs, tuning=replace(pipeline.config.tuning, batch_rows=8))
    pixels_N3PP = pipeline.backbone.normalise(torch.from_numpy(pipeline.decode([row.image for row in rows])))

    def residual(prompt: torch.Tensor) -> float:
        with torch.no_grad():
            features = pipeline.prompt_kind.features(pixels_N3PP, prompt.to(pixels_N3PP).expand(96, *prompt.shape))
        deepest_NF = features.deepest_ND.double().cpu().numpy()
        design_NF = np.hstack([deepest_NF, np.ones((96, 1))])
        targets_NC = np.eye(3)[[row.label for row in rows]]
        gram_FF = design_NF.T @ design_NF + np.eye(design_NF.shape[1])
        weight_FC = np.linalg.solve(gram_FF, design_NF.T @ targets_NC)
        return float(((design_NF @ weight_FC - targets_NC) ** 2).sum())

    learned = learn_public_prompt(pipeline.backbone, config, rows)
    assert learned is not None
    assert residual(learned) < residual(pipeline.prompt_kind.start(config.seed))


def test_public_artifacts_with_it_open_as_the_same_pipeline(built: Callable[[str, int], System]) -> None:
    pipeline = built("token", 0).pipeline()
    artifacts = build_public(pipeline.config, pipeline.backbone.model.state_dict(), samples(1000, 1096))
    opened = open_pipeline(pipeline.config, artifacts)
    assert opened.public_prompt is not None and pipeline.public_prompt is not None
    assert torch.equal(opened.public_prompt, pipeline.public_prompt)
