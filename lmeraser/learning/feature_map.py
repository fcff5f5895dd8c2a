"""From raw head features to the grid on which sums are exact: standardise, project, round, clip.

Everything here is fitted on public features, so it is fixed before any private row is added.

Legend: N rows, F raw head features, H head features after the projection.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from lmeraser.learning.moments import CONSTANT, Moments
from lmeraser.learning.numerics import GRID, LIMIT, in_fixed_batches

_PROJECT_BATCH = 64


@dataclass(frozen=True)
class FeatureMap:
    """An affine map, then rounding to 1/256 and clipping to ±8.

    Attributes:
        mean_F: float64, subtracted first.
        projection_FH: float64, applied next.
    """

    mean_F: np.ndarray
    projection_FH: np.ndarray

    @staticmethod
    def fit(public_NF: np.ndarray, head_dim: int) -> FeatureMap:
        """Standardise each feature; where there are more than ``head_dim``, keep the leading principal components.

        A component's standard deviation σ becomes √σ (scaled so that the mean square is one): a compromise between
        keeping it, which would clip the first components, and whitening, which would amplify the noise of the last
        (decision 3).
        """
        mean_F = public_NF.mean(axis=0, dtype=np.float64)
        scale_F = _scale(public_NF.std(axis=0, dtype=np.float64))
        if len(mean_F) <= head_dim:
            return FeatureMap(mean_F, np.diag(scale_F))
        standard_NF = (public_NF - mean_F) * scale_F
        return FeatureMap._leading(mean_F, scale_F, standard_NF.T @ standard_NF / len(public_NF), head_dim)

    @staticmethod
    def of_moments(moments: Moments, head_dim: int) -> FeatureMap:
        """The same for features of which there are only the moments."""
        covariance_FF = moments.covariance_FF
        scale_F = _scale(np.sqrt(np.maximum(np.diag(covariance_FF), 0.0)))
        if len(scale_F) <= head_dim:
            return FeatureMap(moments.mean_F, np.diag(scale_F))
        covariance_FF *= scale_F[:, None]
        covariance_FF *= scale_F
        return FeatureMap._leading(moments.mean_F, scale_F, covariance_FF, head_dim)

    @staticmethod
    def _leading(mean_F: np.ndarray, scale_F: np.ndarray, correlation_FF: np.ndarray, head_dim: int) -> FeatureMap:
        """The leading principal components of standardised features."""
        variances_F, directions_FF = scipy.linalg.eigh(correlation_FF, driver="evd")
        directions_FH = directions_FF[:, ::-1][:, :head_dim]
        deviations_H = np.sqrt(np.maximum(variances_F[::-1][:head_dim], 0.0))
        # With fewer public rows than features, nothing is known about some directions: they are left out.
        power_H = np.where(deviations_H > 1e-3, 1 / np.sqrt(np.maximum(deviations_H, 1e-3)), 0.0)
        power_H /= np.sqrt(np.mean((deviations_H * power_H) ** 2)) or 1.0
        return FeatureMap(mean_F, scale_F[:, None] * directions_FH * power_H)

    @staticmethod
    def from_tensors(tensors: Mapping[str, np.ndarray]) -> FeatureMap:
        """The inverse of :meth:`tensors`."""
        return FeatureMap(tensors["mean_F"], tensors["projection_FH"])

    def tensors(self) -> dict[str, np.ndarray]:
        """The map as arrays."""
        return {"mean_F": self.mean_F, "projection_FH": self.projection_FH}

    @property
    def width(self) -> int:
        """H, the features after the projection."""
        return int(self.projection_FH.shape[1])

    def project(self, head_NF: np.ndarray) -> np.ndarray:
        """Features on the grid, int16 [N, H], from raw head features, float32 [N, F]."""

        def run(head_BF: np.ndarray) -> tuple[np.ndarray]:
            projected_BH = (head_BF.astype(np.float64) - self.mean_F) @ self.projection_FH
            return (np.clip(np.rint(projected_BH * GRID), -LIMIT * GRID, LIMIT * GRID).astype(np.int16),)

        return in_fixed_batches(run, head_NF, _PROJECT_BATCH)[0]


class TorchFeatureMap:
    """The same map in float32 on a device: for answers and tuning steps, which do not enter the state."""

    def __init__(self, feature_map: FeatureMap, device: torch.device) -> None:
        self._mean_F = torch.from_numpy(feature_map.mean_F).to(device, torch.float32)
        self._projection_FH = torch.from_numpy(feature_map.projection_FH).to(device, torch.float32)

    def __call__(self, head_NF: Tensor) -> Tensor:
        """Features, float32 [N, H] and not rounded, of raw head features of any float type."""
        with torch.autocast(self._mean_F.device.type, enabled=False):
            return (head_NF.float() - self._mean_F) @ self._projection_FH

    def on_grid(self, head_NF: Tensor) -> Tensor:
        """Features rounded and clipped as by FeatureMap.project, int16 [N, H]."""
        return (self(head_NF) * GRID).round().clamp(-LIMIT * GRID, LIMIT * GRID).to(torch.int16)


def _scale(deviation_F: np.ndarray) -> np.ndarray:
    """What features are multiplied with to have the deviation 1; constant ones are left as they are."""
    scale_F: np.ndarray = 1 / np.where(deviation_F > CONSTANT, deviation_F, 1.0)
    return scale_F
