"""Public artifacts from more rows than features are kept of."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from small_system import LABELS, MINUTE, SMALLEST, samples

from lmeraser.config import HeadsConfig, PromptConfig, StateConfig
from lmeraser.data import Sample
from lmeraser.learning.anchors import fit_anchors
from lmeraser.learning.backbone import create_model
from lmeraser.learning.feature_map import FeatureMap
from lmeraser.state import public_draw, public_fit
from lmeraser.state.pipeline_loading import open_routed
from lmeraser.state.public_artifacts import PublicArtifacts
from lmeraser.state.public_draw import PublicDraw, row_hash
from lmeraser.state.public_fit import build_public, public_features

CONFIG = StateConfig(
    labels=LABELS,
    backbone=MINUTE,
    partition=SMALLEST["minute"],
    prompt=PromptConfig("token", tokens=2, public_epochs=0),
    heads=HeadsConfig(head_dim=16),
)
ROWS = samples(1000, 1150)


@pytest.fixture
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Features of at most sixty rows are kept."""
    monkeypatch.setattr(public_draw, "WHOLE_ROWS", 60)
    monkeypatch.setattr(public_draw, "_ROWS_PER_ANCHOR", 15)
    monkeypatch.setattr(public_draw, "_GRID_ROWS", 40)
    monkeypatch.setattr(public_fit, "PUBLIC_CHUNK", 40)
    return iter((None,))


def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return create_model(MINUTE).state_dict()


def bits(artifacts: PublicArtifacts) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in {**artifacts.partition, **artifacts.features}.items()}


@pytest.mark.usefixtures("few_are_many")
def test_artifacts_of_many_rows_do_not_depend_on_the_order_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = bits(build_public(CONFIG, weights(), ROWS))
    shuffled = random.Random(0).sample(ROWS, len(ROWS))
    assert bits(build_public(CONFIG, weights(), shuffled)) == expected
    monkeypatch.setattr(public_fit, "PUBLIC_CHUNK", 7)
    assert bits(build_public(CONFIG, weights(), shuffled)) == expected


@pytest.mark.usefixtures("few_are_many")
def test_anchors_of_many_rows_are_those_of_the_rows_with_the_lowest_hashes() -> None:
    artifacts = build_public(CONFIG, weights(), ROWS)
    drawn = sorted(ROWS, key=lambda sample: row_hash(CONFIG, sample))[:90]
    features = public_features(CONFIG, open_routed(CONFIG, MINUTE, weights()), None, drawn)
    expected_AR = fit_anchors(features.routing_NR, 6, CONFIG.seed)
    np.testing.assert_allclose(artifacts.partition["anchors_AR"], expected_AR, rtol=1e-6)


@pytest.mark.usefixtures("few_are_many")
def test_the_feature_map_of_many_rows_is_fitted_to_all_of_them() -> None:
    found = FeatureMap.from_tensors(build_public(CONFIG, weights(), ROWS).features)
    features = public_features(CONFIG, open_routed(CONFIG, MINUTE, weights()), None, ROWS)
    expected = FeatureMap.fit(features.head_NF, 16)
    deviation_F = features.head_NF.std(axis=0, dtype=float)
    assert (np.abs(found.mean_F - expected.mean_F) / deviation_F).max() < 1e-3
    found_NH, expected_NH = (each.project(features.head_NF).astype(float) for each in (found, expected))
    alike_H = (found_NH * expected_NH).sum(axis=0) / (expected_NH**2).sum(axis=0)
    # The leading components; later ones are nearly as long as each other.
    assert np.abs(np.abs(alike_H[:8]) - 1).max() < 0.02


def test_a_draw_has_the_rows_with_the_lowest_hashes_and_takes_all_where_there_are_few(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    by_hash = sorted(ROWS, key=lambda sample: row_hash(CONFIG, sample))
    whole = PublicDraw.of(CONFIG, ROWS)
    assert whole.is_whole and whole.rows == 150
    assert list(whole.grid_samples) == by_hash
    monkeypatch.setattr(public_draw, "WHOLE_ROWS", 20)
    monkeypatch.setattr(public_draw, "_ROWS_PER_ANCHOR", 5)
    monkeypatch.setattr(public_draw, "_GRID_ROWS", 10)
    drawn = PublicDraw.of(CONFIG, iter(ROWS))
    assert not drawn.is_whole
    assert drawn.highest == row_hash(CONFIG, by_hash[29])
    assert list(drawn.grid_samples) == by_hash[:10]
    assert drawn.without_samples().grid_samples == ()
    nothing: list[Sample] = []
    assert PublicDraw.of(CONFIG, nothing).rows == 0
