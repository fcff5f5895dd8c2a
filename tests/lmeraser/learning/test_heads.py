"""Exact sums in any order, the discriminants and their penalty against plain NumPy, and the blend of both heads."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plain_head import GRID, hat_matrix, kappa, log_odds

from lmeraser.errors import ObjectCorruptError
from lmeraser.learning.heads import Head, Statistics, blend, probabilities, solve
from lmeraser.learning.numerics import deterministic
from lmeraser.state.heads_state import HeadsState, SolvedHeads, Sums
from lmeraser.state.tensors import tensors_to_bytes

CLASSES = 3
FEATURES = 6
PENALTIES_G = np.logspace(-6, 2, 33)
# Rows, features, classes, distance of the classes, share of labels that are drawn at random.
SHAPES = [
    (60, 4, 3, 3.0, 0.0),
    (40, 8, 2, 1.0, 0.1),
    (80, 30, 5, 1.0, 0.3),
    (50, 40, 3, 0.5, 0.5),
    (70, 10, 3, 0.0, 1.0),
]

# A busy machine is no reason to fail.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def rows(
    number: int, features: int, classes: int, distance: float, noise: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Rows on the grid, whose mean is not zero and whose features go together."""
    generator = np.random.default_rng(seed)
    labels_N = generator.permutation(np.arange(number) % classes)
    centres_CH = distance * generator.normal(size=(classes, features)) / math.sqrt(features)
    raw_NH = 0.5 + centres_CH[labels_N] + generator.normal(size=(number, features)) * np.linspace(0.2, 2, features)
    random_N = generator.random(number) < noise
    labels_N[random_N] = generator.integers(0, classes, random_N.sum())
    return np.clip(np.rint(raw_NH * GRID), -8 * GRID, 8 * GRID).astype(np.int16), labels_N


def wild_rows(number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows anywhere on the grid, half of them at its ends."""
    generator = np.random.default_rng(seed)
    ends_NH = generator.choice([-2048, 0, 2048], (number, FEATURES))
    inner_NH = generator.integers(-2048, 2049, (number, FEATURES))
    features_NH = np.where(generator.random((number, FEATURES)) < 0.5, ends_NH, inner_NH)
    return features_NH.astype(np.int16), generator.integers(0, CLASSES, number)


def plain_gcv(features_NH: np.ndarray, labels_N: np.ndarray, classes: int, penalty: float) -> float:
    """Mean square of the leave-one-out residuals, each row's leverage replaced by the mean of all."""
    hat_NN, targets_NC = hat_matrix(features_NH, penalty), np.eye(classes)[labels_N]
    return float(((targets_NC - hat_NN @ targets_NC) ** 2).sum() / len(labels_N) / kappa(hat_NN))


def bits(statistics: Statistics) -> list[tuple[str, bytes]]:
    return [(name, array.tobytes()) for name, array in statistics.tensors("").items()]


def head_bits(head: Head) -> tuple[bytes, bytes, float, float]:
    return head.weight_HC.tobytes(), head.bias_C.tobytes(), head.penalty, head.unexplained


@pytest.mark.parametrize("number", [0, 1, 30, 4095, 4096, 4097, 9000])
def test_statistics_are_the_sums_in_whole_numbers(number: int) -> None:
    features_NH, labels_N = wild_rows(number, seed=number)
    whole_NH, onehot_NC = features_NH.astype(np.int64), np.eye(CLASSES, dtype=np.int64)[labels_N]
    statistics = Statistics.of(features_NH, labels_N, CLASSES)
    assert np.array_equal(statistics.gram_HH, whole_NH.T @ whole_NH)
    assert np.array_equal(statistics.cross_HC, whole_NH.T @ onehot_NC)
    assert np.array_equal(statistics.sums_H, whole_NH.sum(axis=0))
    assert np.array_equal(statistics.counts_C, onehot_NC.sum(axis=0))
    assert statistics.rows == number


@unhurried
@given(st.integers(0, 40), st.integers(0, 2**32 - 1), st.randoms(use_true_random=False))
def test_adding_and_subtracting_in_any_order_is_summing_what_remains(
    number: int, seed: int, chance: random.Random
) -> None:
    features_NH, labels_N = wild_rows(number, seed)
    remains_N = np.array([chance.random() < 0.6 for _ in range(number)], bool)

    def groups(kept: list[int]) -> list[list[int]]:
        order = chance.sample(kept, len(kept))
        ends = sorted({0, len(kept), *(chance.randint(0, len(kept)) for _ in range(4))})
        return [order[start:end] for start, end in pairwise(ends)]

    steps = [(1, group) for group in groups(list(range(number)))]
    steps += [(-1, group) for group in groups(np.flatnonzero(~remains_N).tolist())]
    total = Statistics.zero(FEATURES, CLASSES)
    for sign, group in chance.sample(steps, len(steps)):
        part = Statistics.of(features_NH[group], labels_N[group], CLASSES)
        total = total + part if sign > 0 else total - part
    at_once = Statistics.of(features_NH[remains_N], labels_N[remains_N], CLASSES)
    assert bits(total) == bits(at_once)
    with deterministic():
        assert head_bits(solve(total)) == head_bits(solve(at_once))


def test_the_statistics_of_several_tables_are_those_of_all_their_rows() -> None:
    tables = [SimpleNamespace(features_NH=rows[0], labels_N=rows[1]) for rows in (wild_rows(9, 0), wild_rows(30, 1))]
    nothing = Statistics.zero(FEATURES, CLASSES)
    together = Statistics.of(
        np.concatenate([table.features_NH for table in tables]),
        np.concatenate([table.labels_N for table in tables]),
        CLASSES,
    )
    assert bits(Statistics.of_all(tables, nothing)) == bits(together)
    assert bits(Statistics.of_all([], together)) == bits(nothing)


def test_sums_over_two_to_the_thirty_first_rows_are_refused() -> None:
    half = replace(Statistics.zero(2, 2), counts_C=np.array([2.0**29, 2.0**29]))
    one_less = replace(half, counts_C=half.counts_C - [0, 1])
    assert (half + one_less).rows == 2**31 - 1
    with pytest.raises(OverflowError, match="2147483648"):
        _ = half + half


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_scores_separate_classes_as_normal_densities_do(shape: tuple[int, int, int, float, float]) -> None:
    features_NH, labels_N = rows(*shape)
    head = solve(Statistics.of(features_NH, labels_N, shape[2]))
    others_NH, _ = rows(*shape, seed=1)
    expected_NC = log_odds(others_NH, features_NH, labels_N, shape[2], head.penalty)
    scores_NC = head.scores(others_NH)
    np.testing.assert_allclose(scores_NC - scores_NC[:, :1], expected_NC, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_the_penalty_is_the_one_of_the_grid_with_the_least_gcv(
    shape: tuple[int, int, int, float, float], seed: int
) -> None:
    features_NH, labels_N = rows(*shape, seed=seed)
    head = solve(Statistics.of(features_NH, labels_N, shape[2]))
    gcv_G = [plain_gcv(features_NH, labels_N, shape[2], penalty) for penalty in PENALTIES_G]
    assert head.penalty == pytest.approx(PENALTIES_G[np.argmin(gcv_G)])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_unexplained_share_is_the_least_gcv_over_the_variance(
    shape: tuple[int, int, int, float, float],
) -> None:
    features_NH, labels_N = rows(*shape)
    head = solve(Statistics.of(features_NH, labels_N, shape[2]))
    variance = np.eye(shape[2])[labels_N].var(axis=0).sum()
    least = min(plain_gcv(features_NH, labels_N, shape[2], penalty) for penalty in PENALTIES_G)
    assert head.unexplained == pytest.approx(least / variance)


def test_of_two_heads_the_one_with_clearer_features_is_better() -> None:
    clear, noisy = (solve(Statistics.of(*rows(60, 4, 3, 3.0, noise), 3)) for noise in (0.0, 0.3))
    nothing, one_class = (
        solve(Statistics.zero(4, 3)),
        solve(Statistics.of(rows(9, 4, 1, 3.0, 0.0)[0], np.zeros(9, int), 3)),
    )
    assert clear.no_worse_than(noisy) and noisy.no_worse_than(nothing) and clear.no_worse_than(clear)
    assert not noisy.no_worse_than(clear) and not nothing.no_worse_than(noisy)
    assert (nothing.unexplained, one_class.unexplained) == (1.0, 1.0)


def test_noise_raises_the_penalty() -> None:
    penalties = []
    for shape in ((60, 4, 3, 3.0, 0.0), (80, 30, 5, 1.0, 0.3), (70, 10, 3, 0.0, 1.0)):
        features_NH, labels_N = rows(*shape)
        penalties.append(solve(Statistics.of(features_NH, labels_N, shape[2])).penalty)
    assert penalties == sorted(penalties) and len(set(penalties)) == 3


def test_more_features_than_rows_give_a_head_whose_gcv_is_near_the_least() -> None:
    features_NH, labels_N = rows(30, 60, 3, 1.0, 0.2)
    head = solve(Statistics.of(features_NH, labels_N, 3))
    least = min(plain_gcv(features_NH, labels_N, 3, penalty) for penalty in PENALTIES_G)
    assert plain_gcv(features_NH, labels_N, 3, head.penalty) <= least * 1.001


def test_no_rows_give_zero_scores() -> None:
    head = solve(Statistics.zero(FEATURES, CLASSES))
    scores_NC = head.scores(wild_rows(5, seed=0)[0])
    assert scores_NC.shape == (5, CLASSES)
    assert not scores_NC.any()


@pytest.mark.parametrize("label", range(CLASSES))
def test_one_row_gives_its_label_to_every_row(label: int) -> None:
    head = solve(Statistics.of(wild_rows(1, seed=3)[0], np.array([label]), CLASSES))
    assert np.array_equal(probabilities(head.scores(wild_rows(5, seed=0)[0]), 2.0), np.eye(CLASSES)[[label] * 5])


def test_a_feature_that_is_constant_has_no_weight() -> None:
    features_NH, labels_N = rows(60, 4, 3, 3.0, 0.0)
    features_NH[:, 2] = 700
    head = solve(Statistics.of(features_NH, labels_N, 3))
    assert np.abs(head.weight_HC[2]).max() < 1e-9
    assert np.abs(head.weight_HC[[0, 1, 3]]).max() > 0.01


def test_an_emptied_class_keeps_its_column() -> None:
    features_NH, labels_N = rows(60, 4, 3, 3.0, 0.0)
    emptied_N = labels_N == 1
    everything = Statistics.of(features_NH, labels_N, 3)
    head = solve(everything - Statistics.of(features_NH[emptied_N], labels_N[emptied_N], 3))
    assert (head.weight_HC.shape, head.bias_C.shape) == ((4, 3), (3,))
    scores_NC = head.scores(features_NH)
    assert not probabilities(scores_NC, 2.0)[:, 1].any()
    others = solve(Statistics.of(features_NH[~emptied_N], labels_N[~emptied_N] // 2, 2))
    np.testing.assert_allclose(scores_NC[:, [0, 2]], others.scores(features_NH), rtol=1e-9, atol=1e-12)


def plain_blend(
    shared: list[float], pooled: list[float], has_specialist: bool, weight: float, temperature: float
) -> list[float]:
    def softmax(scores: list[float]) -> list[float]:
        powers = [math.exp((score - max(scores)) / temperature) for score in scores]
        return [power / sum(powers) for power in powers]

    weight = weight if has_specialist else 0.0
    return [(1 - weight) * one + weight * other for one, other in zip(softmax(shared), softmax(pooled), strict=True)]


@unhurried
@given(st.integers(1, 6), st.floats(0, 1), st.floats(0.01, 10), st.integers(0, 2**32 - 1))
def test_a_blend_is_the_weighted_mean_of_both_softmaxes(
    number: int, weight: float, temperature: float, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    shared_NC, pooled_NC = generator.normal(size=(2, number, CLASSES)) * 10 ** generator.uniform(-2, 3)
    has_N = generator.random(number) < 0.5
    blended_NC = blend(shared_NC, pooled_NC, has_N, weight, temperature)
    np.testing.assert_allclose(blended_NC.sum(axis=1), 1, rtol=1e-12)
    for row in range(number):
        expected = plain_blend(shared_NC[row].tolist(), pooled_NC[row].tolist(), bool(has_N[row]), weight, temperature)
        np.testing.assert_allclose(blended_NC[row], expected, rtol=1e-9, atol=1e-12)


def test_weight_one_is_the_pooled_head_alone_and_weight_zero_the_shared_head_alone() -> None:
    shared_NC, pooled_NC = np.random.default_rng(0).normal(size=(2, 5, CLASSES))
    has_N, none_N = np.ones(5, bool), np.zeros(5, bool)
    nothing_NC = np.zeros_like(shared_NC)
    shared_alone_NC = blend(shared_NC, nothing_NC, has_N, 0.0, 0.5)
    assert np.array_equal(shared_alone_NC, blend(shared_NC, pooled_NC, has_N, 0.0, 0.5))
    assert np.array_equal(shared_alone_NC, blend(shared_NC, pooled_NC, none_N, 1.0, 0.5))
    pooled_alone_NC = blend(nothing_NC, pooled_NC, has_N, 1.0, 0.5)
    assert np.array_equal(pooled_alone_NC, blend(shared_NC, pooled_NC, has_N, 1.0, 0.5))
    assert np.array_equal(shared_alone_NC.argmax(axis=1), shared_NC.argmax(axis=1))
    assert np.array_equal(pooled_alone_NC.argmax(axis=1), pooled_NC.argmax(axis=1))
    assert not np.allclose(shared_alone_NC, pooled_alone_NC)


def some_state() -> HeadsState:
    shared, pooled = (Statistics.of(*rows(60, 4, 3, 3.0, 0.0, seed), 3) for seed in (0, 1))
    return HeadsState.of(shared, pooled)


def test_statistics_survive_their_tensors() -> None:
    state = some_state()
    tensors = {**state.sums.shared.tensors("a."), **state.sums.pooled.tensors("b.")}
    assert bits(Statistics.from_tensors(tensors, "a.")) == bits(state.sums.shared)
    assert bits(Statistics.from_tensors(tensors, "b.")) == bits(state.sums.pooled)
    assert bits(state.sums.shared) != bits(state.sums.pooled)


@pytest.mark.parametrize("state", [some_state(), HeadsState.empty(4, 3)], ids=["some rows", "no rows"])
def test_a_state_survives_its_files_bit_for_bit(state: HeadsState) -> None:
    sums = Sums.from_safetensors(state.sums.to_safetensors(), "heads/a.sums")
    solved = SolvedHeads.from_safetensors(state.solved.to_safetensors(), "heads/a")
    assert (bits(sums.shared), bits(sums.pooled)) == (bits(state.sums.shared), bits(state.sums.pooled))
    assert head_bits(solved.shared) == head_bits(state.solved.shared)
    assert head_bits(solved.pooled) == head_bits(state.solved.pooled)
    assert HeadsState(sums, solved).digests() == state.digests()


def test_a_head_that_is_read_gives_the_same_bits_as_when_it_was_solved() -> None:
    for seed in range(8):
        features_NH, labels_N = rows(200, 96, 10, 3.0, 0.0, seed)
        statistics = Statistics.of(features_NH, labels_N, 10)
        state = HeadsState.of(statistics, statistics)
        back = SolvedHeads.from_safetensors(state.solved.to_safetensors(), "heads/a")
        for number in (1, 7, 200):
            part_NH = features_NH[:number]
            assert back.shared.scores(part_NH).tobytes() == state.solved.shared.scores(part_NH).tobytes()


def test_the_digests_depend_on_all_statistics_and_heads() -> None:
    state = some_state()
    sums, solved = state.sums, state.solved
    other_sums = [replace(sums, shared=sums.pooled), replace(sums, pooled=sums.shared), Sums(sums.pooled, sums.shared)]
    other_heads = [
        replace(solved, shared=replace(solved.shared, penalty=0.5)),
        replace(solved, pooled=solved.shared),
        SolvedHeads(solved.pooled, solved.shared),
    ]
    assert len({each.digest() for each in (sums, *other_sums)}) == len(other_sums) + 1
    assert len({each.digest() for each in (solved, *other_heads)}) == len(other_heads) + 1


@pytest.mark.parametrize("data", [b"", b"no file", tensors_to_bytes({"shared.gram_HH": np.zeros((2, 2))})])
@pytest.mark.parametrize("kind", [Sums, SolvedHeads])
def test_bytes_that_are_no_file_of_sums_or_heads_are_refused_by_name(
    data: bytes, kind: type[Sums] | type[SolvedHeads]
) -> None:
    with pytest.raises(ObjectCorruptError, match="heads/a"):
        kind.from_safetensors(data, "heads/a")
