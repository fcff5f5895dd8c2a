"""The map onto the grid against NumPy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from lmeraser.learning.feature_map import FeatureMap, TorchFeatureMap
from lmeraser.learning.numerics import deterministic

GRID = 256
LIMIT = 8

# A busy machine is no reason to fail.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def features(rows: int, width: int, seed: int = 0) -> np.ndarray:
    """Raw features of unlike mean and scale that go together, float32 [N, F]."""
    generator = np.random.default_rng(seed)
    fixed = np.random.default_rng(99)
    mixing_FF = fixed.normal(size=(width, width)) * np.linspace(3, 0.3, width)[:, None]
    scale_F, offset_F = 10 ** fixed.uniform(-2, 2, width), fixed.normal(size=width) * 50
    return (generator.normal(size=(rows, width)) @ mixing_FF * scale_F + offset_F).astype(np.float32)


def balanced_rows(rows: int, width: int) -> np.ndarray:
    """Rows whose exact sum is zero, and whose computed sum depends on the order of summation."""
    generator = np.random.default_rng(5)
    half_N = (10 ** generator.uniform(0, 16, (rows, width // 2))).astype(np.float32)
    return generator.permuted(np.concatenate([half_N, -half_N], axis=1), axis=1)


@pytest.mark.parametrize("head_dim", [12, 13, 1024])
def test_features_that_fit_are_standardised_and_kept(head_dim: int) -> None:
    public_NF, private_NF = features(200, 12), features(70, 12, seed=1)
    feature_map = FeatureMap.fit(public_NF, head_dim)
    assert feature_map.width == 12
    mean_F, deviation_F = public_NF.astype(np.float64).mean(axis=0), public_NF.astype(np.float64).std(axis=0)
    expected_NF = np.clip((private_NF - mean_F) / deviation_F, -LIMIT, LIMIT)
    # Half a step of the grid, and room for a tie that falls to the other side.
    assert np.abs(feature_map.project(private_NF) / GRID - expected_NF).max() <= 0.5 / GRID + 1e-9


@pytest.mark.parametrize("head_dim", [1, 5, 11])
def test_features_that_do_not_fit_become_the_leading_principal_components(head_dim: int) -> None:
    public_NF = features(300, 12)
    feature_map = FeatureMap.fit(public_NF, head_dim)
    assert feature_map.width == head_dim
    scaler = StandardScaler().fit(public_NF.astype(np.float64))
    components_HF = PCA(head_dim).fit(scaler.transform(public_NF.astype(np.float64))).components_
    directions_FH = feature_map.projection_FH * scaler.scale_[:, None]
    directions_FH /= np.linalg.norm(directions_FH, axis=0)
    np.testing.assert_allclose(np.abs(components_HF @ directions_FH), np.eye(head_dim), atol=1e-6)
    np.testing.assert_allclose(feature_map.mean_F, scaler.mean_, rtol=1e-9)


def test_a_component_keeps_the_root_of_its_deviation_and_the_mean_square_is_one() -> None:
    public_NF = features(300, 12)
    scaled_NF = StandardScaler().fit_transform(public_NF.astype(np.float64))
    deviations_H = PCA(5).fit(scaled_NF).singular_values_ / np.sqrt(len(public_NF))
    found_NH = FeatureMap.fit(public_NF, 5).project(public_NF) / GRID
    assert np.mean(found_NH**2) == pytest.approx(1, abs=0.01)
    roots_H = found_NH.std(axis=0) / np.sqrt(deviations_H)
    assert deviations_H[0] / deviations_H[-1] > 1.5
    np.testing.assert_allclose(roots_H / roots_H[0], 1, atol=0.02)


def test_every_standardised_feature_has_mean_square_one() -> None:
    public_NF = features(300, 12)
    found_NF = FeatureMap.fit(public_NF, 12).project(public_NF) / GRID
    np.testing.assert_allclose((found_NF**2).mean(axis=0), 1, atol=0.02)
    np.testing.assert_allclose(found_NF.mean(axis=0), 0, atol=0.01)


@unhurried
@given(st.integers(0, 130), st.floats(-3, 6), st.integers(0, 2**32 - 1))
def test_a_projection_is_rounded_to_the_grid_and_clipped(rows: int, power: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    raw_NF = (generator.normal(size=(rows, 3)) * 10**power).astype(np.float32)
    projection_FH = np.array([[1.0, 0.0], [0.0, -0.5], [0.0, 0.0]])
    found_NH = FeatureMap(np.array([0.25, 0.0, 9.0]), projection_FH).project(raw_NF)
    assert (found_NH.shape, found_NH.dtype) == ((rows, 2), np.dtype(np.int16))
    for raw_F, found_H in zip(raw_NF.tolist(), found_NH.tolist(), strict=True):
        exact = [raw_F[0] - 0.25, raw_F[1] * -0.5]
        assert found_H == [round(min(max(value, -LIMIT), LIMIT) * GRID) for value in exact]


@pytest.mark.parametrize("head_dim", [12, 5])
def test_far_rows_are_clipped_at_both_ends(head_dim: int) -> None:
    public_NF = features(300, 12)
    far_NF = np.concatenate(
        [public_NF.mean(axis=0) + 1e4 * np.ptp(public_NF, axis=0) * sign for sign in ([[1]], [[-1]])]
    )
    found_NH = FeatureMap.fit(public_NF, head_dim).project(far_NF.astype(np.float32))
    assert np.array_equal(np.sort(found_NH, axis=0), np.repeat([[-LIMIT * GRID], [LIMIT * GRID]], head_dim, axis=1))


def test_a_row_has_the_same_bits_whatever_else_is_in_its_batch() -> None:
    generator = np.random.default_rng(7)
    rows_NF = balanced_rows(150, 300)
    feature_map = FeatureMap(np.zeros(300), np.ones((300, 2)))
    with deterministic():
        together_NH = feature_map.project(rows_NF)
        assert len(np.unique(together_NH)) > 20
        for order in (generator.permutation(150), np.arange(150)[::-1], np.arange(40, 150)):
            assert feature_map.project(rows_NF[order]).tobytes() == together_NH[order].tobytes()
        for row in range(0, 150, 7):
            assert feature_map.project(rows_NF[row : row + 1]).tobytes() == together_NH[row].tobytes()


def test_no_rows_give_no_projections() -> None:
    found_NH = FeatureMap.fit(features(50, 12), 5).project(np.zeros((0, 12), np.float32))
    assert (found_NH.shape, found_NH.dtype) == ((0, 5), np.dtype(np.int16))


@pytest.mark.parametrize("head_dim", [12, 5])
def test_constant_public_features_do_no_harm(head_dim: int) -> None:
    public_NF, private_NF = features(300, 12), features(60, 12, seed=1)
    public_NF[:, [2, 7]] = 3.5
    feature_map = FeatureMap.fit(public_NF, head_dim)
    assert all(np.isfinite(array).all() for array in feature_map.tensors().values())
    private_NF[:, [2, 7]] = 3.5
    varying_F = np.setdiff1d(np.arange(12), [2, 7])
    without = FeatureMap.fit(public_NF[:, varying_F], head_dim)
    found_NH, without_NH = feature_map.project(private_NF), without.project(private_NF[:, varying_F])
    if head_dim == 12:
        assert np.array_equal(found_NH[:, varying_F], without_NH)
        assert not found_NH[:, [2, 7]].any()
    else:
        signs_H = np.sign(np.sum(found_NH.astype(np.float64) * without_NH, axis=0))
        assert np.abs(found_NH - signs_H * without_NH).max() <= 1


def test_public_features_that_are_all_constant_give_a_finite_map() -> None:
    public_NF = np.full((50, 12), 3.5, np.float32)
    for head_dim in (12, 5):
        feature_map = FeatureMap.fit(public_NF, head_dim)
        assert all(np.isfinite(array).all() for array in feature_map.tensors().values())
        assert not feature_map.project(public_NF).any()


def test_with_fewer_public_rows_than_components_other_rows_are_not_clipped() -> None:
    public_NF, private_NF = np.random.default_rng(0).normal(size=(2, 100, 300)).astype(np.float32)
    found_NH = FeatureMap.fit(public_NF, 200).project(private_NF)
    assert np.mean(np.abs(found_NH) == LIMIT * GRID) < 0.01


@pytest.mark.parametrize("head_dim", [12, 5])
def test_a_fitted_map_survives_its_tensors_bit_for_bit(head_dim: int) -> None:
    public_NF = features(200, 12)
    feature_map = FeatureMap.fit(public_NF, head_dim)
    again = FeatureMap.from_tensors(feature_map.tensors())
    assert again.width == feature_map.width == head_dim
    assert again.mean_F.tobytes() == feature_map.mean_F.tobytes()
    assert again.projection_FH.tobytes() == feature_map.projection_FH.tobytes()
    assert np.array_equal(again.project(public_NF), feature_map.project(public_NF))


def test_fitting_twice_gives_the_same_bits() -> None:
    public_NF = features(200, 12)
    with deterministic():
        first, second = (FeatureMap.fit(public_NF, 5).tensors() for _ in range(2))
    assert {name: array.tobytes() for name, array in first.items()} == {
        name: array.tobytes() for name, array in second.items()
    }


def test_the_map_in_torch_rounds_and_clips_to_the_same_grid() -> None:
    feature_map = FeatureMap.fit(features(200, 12), 5)
    rows_NF = features(60, 12, seed=1)
    rows_NF[0] *= 1000
    on_grid_NH = TorchFeatureMap(feature_map, torch.device("cpu")).on_grid(torch.from_numpy(rows_NF))
    assert on_grid_NH.dtype == torch.int16
    # float32 may round to the next point of the grid.
    assert np.abs(on_grid_NH.numpy().astype(int) - feature_map.project(rows_NF)).max() <= 1
