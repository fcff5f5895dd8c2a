"""Cells of an image: the weight of each patch in each cell (decision 30).

Legend: G cells, S patches.
"""

from __future__ import annotations

import torch
from torch import Tensor


def shares_of_patches(patches: tuple[int, int], cells: int) -> Tensor:
    """The weight of each patch in the mean of each cell, float32 [G, S]; cells and patches are ordered row by row.

    A patch on a border counts in both cells.

    Args:
        patches: patches along each side of the image.
        cells: cells along each side, at most one per patch.
    """
    rows, columns = (_along(length, min(cells, length)) for length in patches)
    return torch.kron(rows, columns)


def _along(length: int, cells: int) -> Tensor:
    shares = torch.zeros(cells, length)
    for cell in range(cells):
        first, last = cell * length // cells, -(-(cell + 1) * length // cells)
        shares[cell, first:last] = 1 / (last - first)
    return shares
