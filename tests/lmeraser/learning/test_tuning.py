"""A tuning is a function of the cluster's rows, the configuration and the seed, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_system import build_system, samples

from lmeraser.config import StateConfig
from lmeraser.errors import TuningCancelledError
from lmeraser.learning.tuning import TuningRows, tune_prompt
from lmeraser.state.pipeline import Pipeline


@pytest.fixture(scope="module", params=["token", "deep", "pad"])
def pipeline(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return build_system(tmp_path_factory.mktemp("tuning"), request.param, 0).pipeline()


def rows_of(pipeline: Pipeline, start: int, stop: int) -> TuningRows:
    rows = samples(start, stop)
    images_N3PP = pipeline.decode([row.image for row in rows])
    return TuningRows(tuple(row.sample_id for row in rows), images_N3PP, np.array([row.label for row in rows]))


def shuffled(rows: TuningRows, seed: int) -> TuningRows:
    order = np.random.default_rng(seed).permutation(len(rows.sample_ids))
    return TuningRows(tuple(rows.sample_ids[row] for row in order), rows.images_N3PP[order], rows.labels_N[order])


def tune(pipeline: Pipeline, rows: TuningRows, config: StateConfig | None = None) -> bytes:
    return tune_prompt(pipeline.backbone, config or pipeline.config, rows).numpy().tobytes()


def test_the_prompt_does_not_depend_on_the_order_of_rows_or_on_earlier_work(pipeline: Pipeline) -> None:
    rows = rows_of(pipeline, 0, 21)
    first = tune(pipeline, rows)
    torch.manual_seed(7)
    np.random.seed(7)
    tune(pipeline, rows_of(pipeline, 30, 40))
    assert tune(pipeline, shuffled(rows, 1)) == first
    assert tune(pipeline, shuffled(rows, 2)) == first


def test_the_prompt_differs_without_one_row_and_under_another_seed(pipeline: Pipeline) -> None:
    rows = rows_of(pipeline, 0, 21)
    first = tune(pipeline, rows)
    fewer = TuningRows(rows.sample_ids[1:], rows.images_N3PP[1:], rows.labels_N[1:])
    assert tune(pipeline, fewer) != first
    assert tune(pipeline, rows, replace(pipeline.config, seed=1)) != first


def test_augmentation_is_drawn_from_the_sample_id(pipeline: Pipeline) -> None:
    if pipeline.config.prompt.depth > 0:
        pytest.skip("a prompt that enters above the pixels takes no augmentation")
    config = replace(pipeline.config, tuning=replace(pipeline.config.tuning, shift_px=2, flip=True))
    rows = rows_of(pipeline, 0, 21)
    first = tune(pipeline, rows, config)
    assert tune(pipeline, shuffled(rows, 3), config) == first
    assert first != tune(pipeline, rows)
    renamed = replace(rows, sample_ids=tuple(f"z{name}" for name in rows.sample_ids))
    assert tune(pipeline, renamed, config) != first


def test_one_row_is_enough_and_steps_are_reported(pipeline: Pipeline) -> None:
    steps: list[tuple[int, int]] = []
    tune_prompt(pipeline.backbone, pipeline.config, rows_of(pipeline, 0, 1), report=lambda *step: steps.append(step))
    assert steps == [(1, 2), (2, 2)]


def test_a_cancelled_tuning_stops_at_its_next_step(pipeline: Pipeline) -> None:
    calls: list[None] = []

    def cancelled() -> bool:
        calls.append(None)
        return len(calls) == 3

    with pytest.raises(TuningCancelledError, match="2 of"):
        tune_prompt(pipeline.backbone, pipeline.config, rows_of(pipeline, 0, 40), cancelled=cancelled)


def test_tuning_lowers_the_loss_of_a_head_on_the_same_rows(pipeline: Pipeline) -> None:
    config = replace(pipeline.config, tuning=replace(pipeline.config.tuning, epochs=12, batch_rows=15))
    rows = rows_of(pipeline, 0, 60)
    pixels_N3PP = pipeline.backbone.normalise(torch.from_numpy(rows.images_N3PP))

    def residual(prompt: torch.Tensor) -> float:
        with torch.no_grad():
            features = pipeline.prompt_kind.features(pixels_N3PP, prompt.to(pixels_N3PP).expand(60, *prompt.shape))
        deepest_NF = features.deepest_ND.double().cpu().numpy()
        design_NF = np.hstack([deepest_NF, np.ones((60, 1))])
        targets_NC = np.eye(3)[rows.labels_N]
        gram_FF = design_NF.T @ design_NF + np.eye(design_NF.shape[1])
        weight_FC = np.linalg.solve(gram_FF, design_NF.T @ targets_NC)
        return float(((design_NF @ weight_FC - targets_NC) ** 2).sum())

    assert residual(tune_prompt(pipeline.backbone, config, rows)) < residual(pipeline.prompt_kind.start(config.seed))


@pytest.mark.slow
def test_another_process_with_more_threads_gives_the_same_bits(tmp_path: Path) -> None:
    program = f"""
import hashlib, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[2] / "support")!r})
from small_system import build_system, samples
pipeline = build_system(Path(sys.argv[1]), "token", 0).pipeline()
rows = pipeline.rows(samples(0, 40))
print(*pipeline.specialist(rows).digests(rows))
"""
    digests = {
        subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / threads)],
            env={**os.environ, "OMP_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in ("1", "2")
    }
    assert len(digests) == 1
