"""Anchors, their index, and linkage in groups, against brute force."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from lmeraser.errors import ConfigError
from lmeraser.learning import anchors as anchors_module
from lmeraser.learning.anchors import AnchorIndex, fit_anchors
from lmeraser.learning.numerics import deterministic
from lmeraser.learning.partition import Dendrogram, cut

# A busy machine is no reason to fail.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def public_rows(number: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    centres_52 = 20 * generator.normal(size=(5, 2))
    return (centres_52[np.arange(number) % 5] + generator.normal(size=(number, 2))).astype(np.float32)


def brute_force_nearest(anchors_AR: np.ndarray, routing_NR: np.ndarray) -> np.ndarray:
    away_NAR = routing_NR[:, None].astype(np.float64) - anchors_AR[None].astype(np.float64)
    nearest_N: np.ndarray = (away_NAR**2).sum(axis=2).argmin(axis=1)
    return nearest_N


@pytest.mark.parametrize(("number", "count"), [(60, 5), (60, 2), (4000, 5)])
def test_anchors_are_the_means_of_the_public_rows_nearest_to_them(number: int, count: int) -> None:
    routing_NR = public_rows(number)
    anchors_AR = fit_anchors(routing_NR, count, seed=0)
    assert (anchors_AR.shape, anchors_AR.dtype) == ((count, 2), np.dtype(np.float32))
    nearest_N = brute_force_nearest(anchors_AR, routing_NR)
    means_AR = [routing_NR[nearest_N == anchor].mean(axis=0) for anchor in range(count)]
    np.testing.assert_allclose(anchors_AR, means_AR, atol=1e-3)


def test_anchors_are_in_lexicographic_order() -> None:
    routing_NR = np.random.default_rng(0).integers(0, 3, (400, 3)).astype(np.float32)
    anchors_AR = fit_anchors(np.unique(routing_NR, axis=0)[::-1], 27, seed=0)
    assert len(np.unique(anchors_AR[:, 0])) < 27
    assert anchors_AR.tolist() == sorted(anchors_AR.tolist())


def test_anchors_have_the_same_bits_for_any_number_of_threads_and_differ_by_seed() -> None:
    routing_NR = np.random.default_rng(0).normal(size=(900, 24)).astype(np.float32)
    bits_of_runs: set[bytes] = set()
    for threads in (1, 2, 3):
        with threadpool_limits(threads), deterministic():
            bits_of_runs.add(fit_anchors(routing_NR, 16, seed=0).tobytes())
    assert len(bits_of_runs) == 1
    assert fit_anchors(routing_NR, 16, seed=1).tobytes() not in bits_of_runs


def test_more_anchors_than_rows_are_refused_with_both_numbers() -> None:
    with pytest.raises(ConfigError, match=r"partition\.anchors is 8\b.*\b7 public rows"):
        fit_anchors(public_rows(7), 8, seed=0)


@unhurried
@given(st.integers(1, 90), st.integers(1, 5), st.integers(0, 150), st.integers(0, 2**32 - 1))
def test_the_nearest_anchor_is_that_of_brute_force_and_the_lowest_of_equals(
    anchors: int, width: int, rows: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    # Small whole numbers: distances are exact, and many are equal.
    anchors_AR = generator.integers(-2, 3, (anchors, width)).astype(np.float32)
    routing_NR = generator.integers(-3, 4, (rows, width)).astype(np.float32)
    found_N = AnchorIndex(anchors_AR).nearest(routing_NR)
    assert (found_N.shape, found_N.dtype) == ((rows,), np.dtype(np.int32))
    assert np.array_equal(found_N, brute_force_nearest(anchors_AR, routing_NR))


def test_the_nearest_anchor_among_many_is_that_of_brute_force() -> None:
    generator = np.random.default_rng(0)
    anchors_AR, routing_NR = (generator.normal(size=(number, 48)).astype(np.float32) for number in (1500, 300))
    assert np.array_equal(AnchorIndex(anchors_AR).nearest(routing_NR), brute_force_nearest(anchors_AR, routing_NR))
    twice_AR = np.concatenate([anchors_AR, anchors_AR])
    assert AnchorIndex(twice_AR).nearest(routing_NR).max() < 1500


def far_from_zero(rows: int, seed: int) -> np.ndarray:
    """Rows so far from zero that float32 leaves it to the kernel which anchor is nearest."""
    return (500 + np.random.default_rng(seed).normal(size=(rows, 48))).astype(np.float32)


def test_the_nearest_anchor_of_a_row_does_not_depend_on_other_rows() -> None:
    index, routing_NR = AnchorIndex(far_from_zero(200, seed=3)), far_from_zero(150, seed=4)
    with deterministic():
        together_N = index.nearest(routing_NR)
        for order in (np.random.default_rng(5).permutation(150), np.arange(150)[::-1], np.arange(0, 150, 7), [149]):
            assert np.array_equal(index.nearest(routing_NR[order]), together_N[order])


def test_the_nearest_anchor_of_a_row_does_not_depend_on_how_many_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    # FAISS searches few rows by another kernel than many; its versions differ in how many are many.
    monkeypatch.setattr(faiss.cvar, "distance_compute_blas_threshold", 20)
    index, routing_NR = AnchorIndex(far_from_zero(200, seed=3)), far_from_zero(150, seed=4)
    with deterministic():
        together_N = index.nearest(routing_NR)
        for number in (1, 5, 19, 20, 63, 64, 65, 83):
            assert np.array_equal(index.nearest(routing_NR[:number]), together_N[:number])


def separate_blobs(blobs: int, rows: int) -> np.ndarray:
    """Rows around centres on a coarse lattice, so far apart that there is no doubt which belong together; shuffled."""
    generator = np.random.default_rng(0)
    centres_G2 = 1000.0 * np.stack(np.divmod(np.arange(blobs), 4), axis=1)
    rows_N2 = np.repeat(centres_G2, rows, axis=0) + generator.normal(size=(blobs * rows, 2))
    return generator.permutation(rows_N2).astype(np.float32)


def squared_error(anchors_AR: np.ndarray, rows_NR: np.ndarray) -> float:
    nearest_N = brute_force_nearest(anchors_AR, rows_NR)
    return float(((rows_NR - anchors_AR[nearest_N]) ** 2).sum())


def test_anchors_in_groups_describe_the_rows_nearly_as_well_as_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rows_NR = np.random.default_rng(0).normal(size=(3000, 6)).astype(np.float32)
    at_once_AR = fit_anchors(rows_NR, 100, seed=0)
    monkeypatch.setattr(anchors_module, "GROUPED_ABOVE", 99)
    in_groups_AR = fit_anchors(rows_NR, 100, seed=0)
    assert (in_groups_AR.shape, in_groups_AR.dtype) == ((100, 6), np.dtype(np.float32))
    assert in_groups_AR.tolist() == sorted(in_groups_AR.tolist())
    assert not np.array_equal(in_groups_AR, at_once_AR)
    assert squared_error(in_groups_AR, rows_NR) < 1.06 * squared_error(at_once_AR, rows_NR)


@unhurried
@given(st.integers(5, 60), st.integers(0, 200), st.integers(0, 2**32 - 1))
def test_there_are_as_many_anchors_as_asked_for_however_the_rows_fall_into_groups(
    count: int, further: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    # A few rows far from a heap of many.
    rows_NR = (generator.pareto(0.5, size=(count + further, 2)) + 1).astype(np.float32)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(anchors_module, "GROUPED_ABOVE", 4)
        anchors_AR = fit_anchors(rows_NR, count, seed=0)
    assert anchors_AR.shape == (count, 2)
    assert np.isfinite(anchors_AR).all()


def test_a_dendrogram_in_groups_keeps_apart_what_is_far_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anchors_module, "GROUPED_ABOVE", 100)
    anchors_AR = separate_blobs(16, 16)
    tree = Dendrogram.fit(anchors_AR)
    # With a row at each anchor, a bound of one blob's rows divides the root into the blobs.
    partition = cut(tree, np.arange(256, dtype=np.int32), np.zeros(256, np.uint64), 16)
    blob_A = np.rint(anchors_AR / 1000).astype(int) @ [4, 1]
    assert [cluster.rows for cluster in partition.clusters] == [16] * 16
    assert {frozenset(blob_A[list(cluster.region.anchors)].tolist()) for cluster in partition.clusters} == {
        frozenset({blob}) for blob in range(16)
    }


@unhurried
@given(st.integers(5, 80), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_a_dendrogram_in_groups_joins_every_node_once(anchors: int, values: int, seed: int) -> None:
    # Few values: many anchors are equal, and groups are as unequal as they can be.
    anchors_AR = np.random.default_rng(seed).integers(1, values + 1, (anchors, 2)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(anchors_module, "GROUPED_ABOVE", 4)
        tree = Dendrogram.fit(anchors_AR)
    assert tree.anchors == anchors and tree.children_M2.dtype == np.int32
    assert sorted(tree.children_M2.ravel().tolist()) == list(range(2 * anchors - 2))
    # A node is made before it is joined.
    assert (tree.children_M2 < np.arange(anchors, 2 * anchors - 1)[:, None]).all()
    assert tree.leaves(2 * anchors - 2) == tuple(range(anchors))
