"""The feature map in float32 and on a device, for what does not enter the state: answers, and steps of a tuning.

Legend: N rows, F raw head features, H head features after the projection.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lmeraser.feature_map import FeatureMap


class DeviceMap:
    """As :meth:`FeatureMap.project`, but neither in float64 nor in padded batches, and not rounded."""

    def __init__(self, feature_map: FeatureMap, device: torch.device) -> None:
        self._mean_F = torch.from_numpy(feature_map.mean_F).to(device, torch.float32)
        self._projection_FH = torch.from_numpy(feature_map.projection_FH).to(device, torch.float32)

    def __call__(self, head_NF: Tensor) -> Tensor:
        """Features, float32 [N, H], of raw head features of any float type."""
        with torch.autocast(self._mean_F.device.type, enabled=False):
            return (head_NF.float() - self._mean_F) @ self._projection_FH
