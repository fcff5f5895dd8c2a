"""Moments of features that are read in parts against NumPy over all of them, and the map that follows from them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmeraser.learning import moments as moments_module
from lmeraser.learning.feature_map import FeatureMap
from lmeraser.learning.moments import FeatureGrid, Moments

# A busy machine is no reason to fail.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def features(rows: int, width: int, seed: int = 0) -> np.ndarray:
    """Raw features of unlike mean and scale that go together, float32 [N, F]."""
    generator = np.random.default_rng(seed)
    fixed = np.random.default_rng(99)
    mixing_FF = fixed.normal(size=(width, width)) * np.linspace(3, 0.3, width)[:, None]
    scale_F, offset_F = 10 ** fixed.uniform(-2, 2, width), fixed.normal(size=width) * 50
    return (generator.normal(size=(rows, width)) @ mixing_FF * scale_F + offset_F).astype(np.float32)


def moments_of(features_NF: np.ndarray, *cuts: int) -> Moments:
    """The moments of rows that are cut into parts, each read by another process."""
    grid = FeatureGrid.of(features(300, features_NF.shape[1], seed=1))
    total = Moments(grid)
    for part_NF in np.split(features_NF, sorted(cuts)):
        part = Moments(grid)
        part.add(part_NF)
        total.merge(part)
    return total


def test_moments_are_those_of_the_rows() -> None:
    features_NF = features(5000, 12)
    moments = moments_of(features_NF, 700)
    assert moments.rows == 5000
    deviation_F = features_NF.std(axis=0, dtype=float)
    assert np.abs(moments.mean_F - features_NF.mean(axis=0, dtype=float)).max() < 1e-3 * deviation_F.max()
    correlation_FF = moments.covariance_FF / np.outer(deviation_F, deviation_F)
    np.testing.assert_allclose(correlation_FF, np.corrcoef(features_NF.astype(float).T), atol=1e-3)


@unhurried
@given(st.lists(st.integers(0, 200), max_size=5), st.integers(0, 2**32 - 1))
def test_moments_depend_on_neither_the_order_of_the_rows_nor_how_they_are_cut(cuts: list[int], seed: int) -> None:
    features_NF = features(200, 7)
    expected, found = moments_of(features_NF), moments_of(np.random.default_rng(seed).permutation(features_NF), *cuts)
    assert found.mean_F.tobytes() == expected.mean_F.tobytes()
    assert found.covariance_FF.tobytes() == expected.covariance_FF.tobytes()


def test_moments_in_several_blocks_of_features_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    features_NF = features(200, 7)
    expected = moments_of(features_NF)
    monkeypatch.setattr(moments_module, "_BLOCK", 3)
    assert moments_of(features_NF).covariance_FF.tobytes() == expected.covariance_FF.tobytes()


def test_so_many_rows_that_sums_are_not_exact_are_refused() -> None:
    moments = moments_of(features(10, 3))
    other = moments_of(features(10, 3))
    # As many as there would have to be.
    other.rows = 2**31
    with pytest.raises(OverflowError, match=f"{2**31 + 10} rows"):
        moments.merge(other)


@pytest.mark.parametrize("head_dim", [5, 12])
def test_the_map_of_moments_is_that_of_all_features(head_dim: int) -> None:
    features_NF, others_NF = features(5000, 12), features(100, 12, seed=2)
    found_NH = FeatureMap.of_moments(moments_of(features_NF), head_dim).project(others_NF).astype(float)
    expected_NH = FeatureMap.fit(features_NF, head_dim).project(others_NF).astype(float)
    # A principal component may have either sign.
    turned_H = np.sign((found_NH * expected_NH).sum(axis=0))
    assert np.abs(found_NH * turned_H - expected_NH).max() <= 4


@pytest.mark.parametrize("head_dim", [5, 12])
def test_features_that_are_constant_do_no_harm(head_dim: int) -> None:
    features_NF = features(500, 12)
    features_NF[:, [3, 7]] = 12345.678
    grid = FeatureGrid.of(features_NF[:50])
    moments = Moments(grid)
    moments.add(features_NF)
    found_NH = FeatureMap.of_moments(moments, head_dim).project(features_NF).astype(float)
    expected_NH = FeatureMap.fit(features_NF, head_dim).project(features_NF).astype(float)
    turned_H = np.where((found_NH * expected_NH).sum(axis=0) < 0, -1, 1)
    assert np.abs(found_NH * turned_H - expected_NH).max() <= 4
