"""Batches of fixed shape, and the threads that a deterministic block takes and gives back."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator

import faiss
import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

from lmeraser.learning.numerics import GRID, LIMIT, deterministic, in_fixed_batches

OUTSIDE = 3
# Of the libraries with threads, the first block meets NumPy's alone.
A_LIBRARY_COMES_LATER = f"""
from lmeraser.learning.numerics import deterministic
with deterministic():
    pass
import scipy.linalg
from threadpoolctl import threadpool_info, threadpool_limits
before = len(threadpool_info())
threadpool_limits({OUTSIDE})
with deterministic():
    assert before > 1 and {{pool["num_threads"] for pool in threadpool_info()}} == {{1}}, threadpool_info()
"""

# A busy machine is no reason to fail.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def threads() -> dict[str, int]:
    """Threads that the calling thread would use, by library."""
    pools = {f"{pool['user_api']} {pool['filepath']}": int(pool["num_threads"]) for pool in threadpool_info()}
    return {**pools, "torch": torch.get_num_threads(), "faiss": faiss.omp_get_max_threads()}


@pytest.fixture
def three_threads() -> Iterator[None]:
    """Three threads for every library, however many cores there are."""
    torch_threads, faiss_threads = torch.get_num_threads(), faiss.omp_get_max_threads()
    enforced = torch.are_deterministic_algorithms_enabled()
    with threadpool_limits(OUTSIDE):
        torch.set_num_threads(OUTSIDE)
        faiss.omp_set_num_threads(OUTSIDE)
        torch.use_deterministic_algorithms(False)
        yield
    torch.set_num_threads(torch_threads)
    faiss.omp_set_num_threads(faiss_threads)
    torch.use_deterministic_algorithms(enforced)


@pytest.mark.usefixtures("three_threads")
def test_a_deterministic_block_has_one_thread_in_every_library_and_restores_the_others() -> None:
    before = threads()
    assert set(before.values()) == {OUTSIDE}
    assert any(name.startswith("blas") for name in before)
    with deterministic():
        assert set(threads().values()) == {1}
    assert threads() == before


@pytest.mark.usefixtures("three_threads")
def test_a_deterministic_block_restores_the_threads_after_an_exception() -> None:
    before = threads()
    with pytest.raises(ZeroDivisionError), deterministic():
        _ = 1 / 0
    assert threads() == before
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.usefixtures("three_threads")
def test_a_deterministic_block_inside_another_leaves_the_outer_one_as_it_is() -> None:
    before = threads()
    with deterministic():
        with deterministic():
            assert set(threads().values()) == {1}
        assert set(threads().values()) == {1}
        assert torch.are_deterministic_algorithms_enabled()
    assert threads() == before


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("enforced", [False, True])
def test_a_deterministic_block_makes_torch_deterministic_and_restores_the_settings(enforced: bool) -> None:
    torch.use_deterministic_algorithms(enforced)
    with deterministic():
        assert torch.are_deterministic_algorithms_enabled()
    assert torch.are_deterministic_algorithms_enabled() is enforced


def test_a_deterministic_block_uses_full_float32_and_restores_the_settings() -> None:
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    torch.set_float32_matmul_precision("medium")
    torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    try:
        with deterministic():
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cudnn.allow_tf32
            assert not torch.backends.cudnn.benchmark
        assert torch.get_float32_matmul_precision() == "medium"
        assert torch.backends.cudnn.allow_tf32
        assert torch.backends.cudnn.benchmark
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = before[1:]


@pytest.mark.usefixtures("three_threads")
def test_a_thread_that_starts_after_a_deterministic_block_has_the_threads_from_before_it() -> None:
    seen: list[int] = []

    def look() -> None:
        seen.append(torch.get_num_threads())

    with deterministic():
        pass
    later = threading.Thread(target=look)
    later.start()
    later.join()
    assert seen == [OUTSIDE]


@pytest.mark.usefixtures("three_threads")
def test_a_deterministic_block_does_without_torch_where_it_was_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    with deterministic():
        assert "torch" not in sys.modules
        assert faiss.omp_get_max_threads() == 1
        assert {pool["num_threads"] for pool in threadpool_info()} == {1}
    assert faiss.omp_get_max_threads() == OUTSIDE
    with pytest.raises(ZeroDivisionError), deterministic():
        _ = 1 / 0
    assert faiss.omp_get_max_threads() == OUTSIDE


def test_a_deterministic_block_has_one_thread_in_a_library_that_was_loaded_after_the_block_before() -> None:
    subprocess.run([sys.executable, "-c", A_LIBRARY_COMES_LATER], check=True)


def test_eigenvectors_in_a_deterministic_block_do_not_depend_on_the_threads_outside() -> None:
    rows_NH = np.random.default_rng(0).normal(size=(500, 300))
    bits_of_runs: list[bytes] = []
    for count in (1, 2, OUTSIDE):
        with threadpool_limits(count), deterministic():
            values_H, vectors_HH = scipy.linalg.eigh(rows_NH.T @ rows_NH, driver="evd")
            bits_of_runs.append(values_H.tobytes() + vectors_HH.tobytes())
    assert len(set(bits_of_runs)) == 1


def test_products_on_the_grid_leave_room_for_two_billion_exact_rows() -> None:
    assert (GRID * LIMIT) ** 2 * 2**31 == 2**53
    assert np.iinfo(np.int16).max >= GRID * LIMIT


@unhurried
@given(st.integers(0, 40), st.integers(1, 9))
def test_every_batch_has_the_same_shape_and_rows_keep_their_order(rows: int, batch: int) -> None:
    rows_N23 = np.arange(1, rows * 6 + 1, dtype=np.float32).reshape(rows, 2, 3)
    seen: list[np.ndarray] = []

    def run(rows_B23: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        seen.append(rows_B23.copy())
        return rows_B23 * 2, rows_B23.sum(axis=(1, 2)), rows_B23[:, 0].astype(np.int16)

    doubled_N23, sums_N, first_N3 = in_fixed_batches(run, rows_N23, batch)
    assert {part_B23.shape for part_B23 in seen} == {(batch, 2, 3)}
    assert {part_B23.dtype for part_B23 in seen} == {np.dtype(np.float32)}
    assert len(seen) == max(-(-rows // batch), 1)
    everything = np.concatenate(seen)
    assert np.array_equal(everything[:rows], rows_N23)
    assert not everything[rows:].any()
    assert np.array_equal(doubled_N23, rows_N23 * 2)
    assert np.array_equal(sums_N, rows_N23.sum(axis=(1, 2)))
    assert np.array_equal(first_N3, rows_N23[:, 0])
    assert (doubled_N23.dtype, first_N3.dtype) == (np.dtype(np.float32), np.dtype(np.int16))


def test_no_rows_give_empty_results_of_the_right_shape_and_type() -> None:
    def run(rows_B3: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((len(rows_B3), 5, 2), np.int16), rows_B3[:, 0] > 0

    wide_N52, flags_N = in_fixed_batches(run, np.zeros((0, 3), np.float32), 4)
    assert (wide_N52.shape, wide_N52.dtype) == ((0, 5, 2), np.dtype(np.int16))
    assert (flags_N.shape, flags_N.dtype) == ((0,), np.dtype(np.bool_))


def test_the_given_rows_are_not_changed() -> None:
    rows_N2 = np.ones((5, 2), np.float32)

    def run(rows_B2: np.ndarray) -> tuple[np.ndarray]:
        rows_B2 *= 7
        return (rows_B2,)

    assert (in_fixed_batches(run, rows_N2, 4)[0] == 7).all()
    assert (rows_N2 == 1).all()


def test_a_row_has_the_same_bits_whatever_else_is_in_its_batch() -> None:
    generator = np.random.default_rng(1)
    half_N = 10.0 ** generator.uniform(12, 16, (100, 150))
    # The exact sum is zero: what is left is the order of summation.
    rows_NF = generator.permuted(np.concatenate([half_N, -half_N], axis=1), axis=1)
    ones_F3 = np.ones((300, 3))

    def run(rows_BF: np.ndarray) -> tuple[np.ndarray]:
        return (rows_BF @ ones_F3,)

    with deterministic():
        together_N3 = in_fixed_batches(run, rows_NF, 16)[0]
        assert together_N3.any()
        order = generator.permutation(100)
        assert in_fixed_batches(run, rows_NF[order], 16)[0].tobytes() == together_N3[order].tobytes()
        for row in range(0, 100, 9):
            assert in_fixed_batches(run, rows_NF[row : row + 1], 16)[0].tobytes() == together_N3[row].tobytes()
