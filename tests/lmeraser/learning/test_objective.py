"""The loss that a tuning minimises, against a second implementation in NumPy.

Legend: N rows, M rows of half a batch, F raw head features, H head features, C classes.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch
from small_system import build_system, samples

from lmeraser.learning.backbone import Features
from lmeraser.learning.feature_map import FeatureMap
from lmeraser.learning.objective import ClosedForm
from lmeraser.learning.tuning import TuningRows, tune_prompt
from lmeraser.state.pipeline import Pipeline


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return build_system(tmp_path_factory.mktemp("objective"), "token", 0).pipeline()


@pytest.fixture(scope="module")
def feature_map() -> FeatureMap:
    return FeatureMap.fit(np.random.default_rng(0).normal(size=(200, 30)), 12)


def objective_of(pipeline: Pipeline, feature_map: FeatureMap, labels_N: np.ndarray) -> ClosedForm:
    ids = [f"r{number:03}" for number in range(len(labels_N))]
    return ClosedForm(pipeline.config, ids, labels_N, feature_map, torch.device("cpu"))


def features(head_NF: np.ndarray) -> Features:
    return Features(torch.from_numpy(head_NF).float(), width=1)


def ridge_loss(fitted: tuple[np.ndarray, np.ndarray], held_out: tuple[np.ndarray, np.ndarray]) -> float:
    """The primal form: rows of the second half under a ridge head of the first."""
    (fitted_MH, fitted_M), (held_MH, held_M) = fitted, held_out
    onehot_MC = np.eye(3)[fitted_M]
    centred_MH, shares_C = fitted_MH - fitted_MH.mean(0), onehot_MC.mean(0)
    gram_HH = centred_MH.T @ centred_MH + len(fitted_M) * np.eye(fitted_MH.shape[1])
    weight_HC = np.linalg.solve(gram_HH, centred_MH.T @ (onehot_MC - shares_C))
    logits_MC = ((held_MH - fitted_MH.mean(0)) @ weight_HC + shares_C) / 0.1
    losses_M = np.log(np.exp(logits_MC).sum(1)) - logits_MC[np.arange(len(held_M)), held_M]
    return float(losses_M[np.isin(held_M, fitted_M)].mean())


def test_the_loss_is_that_of_a_ridge_head_on_the_other_half(pipeline: Pipeline, feature_map: FeatureMap) -> None:
    # Class 2 has one row: it is in the first half alone, and never held out.
    labels_N = np.array([0, 1, 2, 0, 1, 0, 1, 0])
    head_NF = np.random.default_rng(1).normal(size=(10, 30))
    rows_NH = (head_NF[:8] - feature_map.mean_F) @ feature_map.projection_FH
    first, second = (rows_NH[:5], labels_N[:5]), (rows_NH[5:], labels_N[5:])
    expected = ridge_loss(first, second) + ridge_loss(second, first)
    loss = objective_of(pipeline, feature_map, labels_N).loss(features(head_NF), labels_N)
    assert float(loss) == pytest.approx(expected, rel=1e-4)


def test_every_row_is_in_one_batch_of_an_epoch_and_halves_share_their_classes(
    pipeline: Pipeline, feature_map: FeatureMap
) -> None:
    labels_N = np.random.default_rng(2).integers(0, 3, 50)
    objective = objective_of(pipeline, feature_map, labels_N)
    orders = []
    for epoch in range(2):
        batches = list(objective.batches(epoch))
        assert [len(batch_B) for batch_B in batches] == [16, 16, 16, 2]
        orders.append(np.concatenate(batches).tolist())
        assert sorted(orders[-1]) == list(range(50))
        for batch_B in batches:
            counts_C = np.bincount(labels_N[batch_B], minlength=3)
            half = int((counts_C - counts_C // 2).sum())
            assert np.array_equal(np.bincount(labels_N[batch_B[half:]], minlength=3), counts_C // 2)
    assert orders[0] != orders[1]


def test_rows_of_one_class_or_one_of_each_leave_the_prompt_where_it_starts(pipeline: Pipeline) -> None:
    config = replace(pipeline.config, tuning=replace(pipeline.config.tuning, weight_decay=0.0))
    for labels_N in (np.zeros(9, np.int64), np.arange(3)):
        rows = rows_of(pipeline, labels_N)
        prompt = tune_prompt(pipeline.backbone, config, rows, feature_map=pipeline.feature_map)
        assert torch.equal(prompt, pipeline.prompt_kind.start(config.seed))


def test_tuning_lowers_its_own_loss(pipeline: Pipeline) -> None:
    labels_N = np.arange(60) % 3
    rows = rows_of(pipeline, labels_N)
    config = replace(pipeline.config, tuning=replace(pipeline.config.tuning, epochs=12))
    objective = ClosedForm(config, rows.sample_ids, labels_N, pipeline.feature_map, torch.device("cpu"))

    def total(prompt: torch.Tensor) -> float:
        loss = 0.0
        for batch_B in chain.from_iterable(objective.batches(epoch) for epoch in range(12, 17)):
            pixels_BP = pipeline.backbone.normalise(torch.from_numpy(rows.images_N3PP[batch_B]))
            prompts_B = prompt.expand(len(batch_B), *prompt.shape)
            with torch.no_grad():
                loss += float(objective.loss(pipeline.prompt_kind.features(pixels_BP, prompts_B), labels_N[batch_B]))
        return loss

    tuned = tune_prompt(pipeline.backbone, config, rows, feature_map=pipeline.feature_map)
    assert total(tuned) < total(pipeline.prompt_kind.start(config.seed))


def rows_of(pipeline: Pipeline, labels_N: np.ndarray) -> TuningRows:
    rows = samples(0, len(labels_N))
    return TuningRows(
        tuple(row.sample_id for row in rows), pipeline.decode([row.image for row in rows]), labels_N.astype(np.int64)
    )
