"""Arithmetic for the determinism invariant: one thread, deterministic kernels, batches of fixed shape.

The invariant: the state follows, bit by bit, from the rows that the store holds, the configuration and public data.

Legend: N rows, B rows of a batch.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
from threadpoolctl import ThreadpoolController

# cuBLAS is deterministic only with a fixed workspace, and reads this when it is first used.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
# Features that enter the heads are rounded to 1/GRID and clipped to ±LIMIT, so that their sums of
# products are integers below 2^53 and float64 adds them exactly in any order.
GRID = 256
LIMIT = 8


class _ThreadPools:
    """Thread pools of the native libraries in this process.

    Finding them means reading the process's memory map, which takes some milliseconds: as long as a small step in a
    block. So it is done again only where a module was imported since, and is the last in ``sys.modules``. The name of
    an extension is there only after its libraries are loaded, so none is overlooked.
    """

    def __init__(self) -> None:
        self._last: tuple[tuple[int, str], ThreadpoolController] | None = None

    def controller(self) -> ThreadpoolController:
        """Sets the threads of all libraries that are loaded now."""
        modules = len(sys.modules), next(reversed(sys.modules))
        if self._last is None or self._last[0] != modules:
            self._last = modules, ThreadpoolController()
        return self._last[1]


_thread_pools = _ThreadPools()
_alone = threading.RLock()


@contextmanager
def deterministic() -> Iterator[None]:
    """One thread, deterministic kernels and full float32 for BLAS, FAISS and torch inside the block.

    Results must not depend on how many cores a machine has, so work is parallel by process, or by threads each of which
    computes alone (decision 2). Ray sets ``OMP_NUM_THREADS`` per actor, and ``eigh`` depends on the thread count.
    """
    # Code that computes with one of them has imported it; importing it here would slow down all other callers.
    torch = sys.modules.get("torch")
    faiss = sys.modules.get("faiss")
    with ExitStack() as restored:
        # Read before the limit below, which sets it to 1 where FAISS shares a thread pool with BLAS.
        if faiss is not None:
            restored.callback(faiss.omp_set_num_threads, faiss.omp_get_max_threads())
        if torch is not None:
            restored.callback(torch.set_num_threads, torch.get_num_threads())
            restored.callback(torch.use_deterministic_algorithms, torch.are_deterministic_algorithms_enabled())
        restored.enter_context(_thread_pools.controller().limit(limits=1))
        if faiss is not None:
            faiss.omp_set_num_threads(1)
        if torch is not None:
            torch.set_num_threads(1)
            torch.use_deterministic_algorithms(True)
            # Full float32 (decision 36): by default, GPU convolutions round to TF32, and kernels are chosen by timing.
            restored.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
            torch.set_float32_matmul_precision("highest")
            cudnn = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
            restored.enter_context(cudnn)
        yield


@contextmanager
def deterministic_alone() -> Iterator[None]:
    """As :func:`deterministic`, while no other thread of this process is in such a block.

    Some of what a block sets belongs to the process: the end of one would give threads to one of another thread.
    """
    with _alone, deterministic():
        yield


def in_fixed_batches(
    run: Callable[[np.ndarray], tuple[np.ndarray, ...]], rows_N: np.ndarray, batch: int
) -> tuple[np.ndarray, ...]:
    """Apply ``run`` to batches of exactly ``batch`` rows; the last is padded with zeros and trimmed.

    Kernels choose their order of summation by the shape, so with a fixed shape the bits of a row do not depend on the
    rest of its batch (decision 13). Without rows, one padded batch is run to find out the shapes of the results.
    """
    parts: list[tuple[np.ndarray, ...]] = []
    for start in range(0, max(len(rows_N), 1), batch):
        rows_B = rows_N[start : start + batch]
        filled = len(rows_B)
        padded_B = np.zeros((batch, *rows_N.shape[1:]), rows_N.dtype)
        padded_B[:filled] = rows_B
        parts.append(tuple(result[:filled] for result in run(padded_B)))
    return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))
