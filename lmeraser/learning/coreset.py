"""The coreset: the rows of a cluster that its prompt is tuned on (design 4.3).

Each row has a rank among the rows of its class, by a hash of its sample id. The coreset is the first ``size`` rows of
the cluster by rank, then by that hash: so classes come in turn, and it depends on nothing but the rows.

Deleting a row outside the coreset leaves the coreset as it is. Proof: the deletion lowers by one the ranks of the later
rows of its class, and of no others. Those rows come after the deleted row in the order, both before and after the
deletion: their new rank is at least that of the deleted row, and where it is equal, their hash is greater. So nothing
moves to a place before that of the deleted row, and the first ``size`` rows, which come before it, remain the first.

Deleting a row of the coreset lets one row in, where there is another, and no row out. Adding a row is the reverse: a
row that does not enter the coreset leaves it as it is.

Legend: N rows, M rows of the coreset.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from lmeraser.hashing import draw_uint64
from lmeraser.ids import comparable


def coreset_hashes(seed: int, sample_ids: Iterable[str]) -> np.ndarray:
    """The hash of each row by which the coreset is drawn, uint64 [N]."""
    return np.array([draw_uint64(seed, "coreset", comparable(name)) for name in sample_ids], np.uint64)


def coreset(hashes_N: np.ndarray, labels_N: np.ndarray, size: int) -> np.ndarray:
    """Positions of the coreset's rows, ascending, int64 [M].

    Args:
        hashes_N: uint64, see :func:`coreset_hashes`; distinct.
        labels_N: int64, the class of each row.
        size: M where there are so many rows, at least 1; otherwise all rows are in the coreset.
    """
    if len(hashes_N) <= size:
        return np.arange(len(hashes_N))
    order_N = np.lexsort((hashes_N, labels_N))
    _, starts_C, counts_C = np.unique(labels_N[order_N], return_index=True, return_counts=True)
    ranks_N = np.empty(len(hashes_N), np.int64)
    ranks_N[order_N] = np.arange(len(hashes_N)) - np.repeat(starts_C, counts_C)
    return np.sort(np.lexsort((hashes_N, ranks_N))[:size])
