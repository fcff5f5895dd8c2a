"""Scores of features with a head, where the features are.

Legend: N images, H head features, C classes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from lmeraser.learning.heads import Head
from lmeraser.learning.numerics import GRID

# Takes features on the grid, int16 [N, H], and gives scores, float64 [N, C].
Scoring = Callable[[Tensor], np.ndarray]


def scoring(head: Head, device: torch.device) -> Scoring:
    """How a head scores features on a device.

    On a CPU that is Head.scores itself. Otherwise only the scores are copied to the CPU, not the features.
    """
    if device.type == "cpu":
        return lambda grid_NH: head.scores(grid_NH.numpy())
    return DeviceHead(head, device)


class DeviceHead:
    """A head on a device. It adds in float64 as Head.scores does, but in another order: the last bits may differ."""

    def __init__(self, head: Head, device: torch.device) -> None:
        self._weight_HC = torch.from_numpy(head.weight_HC).to(device)
        self._bias_C = torch.from_numpy(head.bias_C).to(device)

    def __call__(self, grid_NH: Tensor) -> np.ndarray:
        """Scores, float64 [N, C], of features on the grid, int16 [N, H]."""
        with torch.autocast(grid_NH.device.type, enabled=False):
            scores_NC: np.ndarray = torch.addmm(self._bias_C, grid_NH.double() / GRID, self._weight_HC).cpu().numpy()
        return scores_NC
