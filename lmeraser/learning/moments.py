"""Mean and covariance of features that are read once, in any order and by any number of processes.

Features are rounded to a grid whose origin and step come from a sample of the rows. Then sums of products are exact
integers, as in the heads, and merging is exact too: the result does not depend on how the rows were cut.

Legend: N rows, F features, B features of a block.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lmeraser.learning.numerics import GRID, LIMIT

_EXACT = 2**53
_BLOCK = 1024
# A feature that varies less is constant.
CONSTANT = 1e-6


@dataclass(frozen=True)
class FeatureGrid:
    """A grid for raw features: multiples of 1/256 of a feature's deviation in a sample, clipped to ±8 deviations.

    Attributes:
        origin_F: float64, the sample's mean.
        step_F: float64, the distance of two points.
    """

    origin_F: np.ndarray
    step_F: np.ndarray

    @staticmethod
    def of(sample_NF: np.ndarray) -> FeatureGrid:
        """The grid that fits a sample of the rows."""
        deviation_F = sample_NF.std(axis=0, dtype=np.float64)
        step_F = np.where(deviation_F > CONSTANT, deviation_F, 1.0) / GRID
        return FeatureGrid(sample_NF.mean(axis=0, dtype=np.float64), step_F)

    def points(self, features_NF: np.ndarray) -> np.ndarray:
        """The nearest point of the grid for each feature, as whole numbers in float64."""
        points_NF: np.ndarray = np.rint((features_NF.astype(np.float64) - self.origin_F) / self.step_F)
        np.clip(points_NF, -LIMIT * GRID, LIMIT * GRID, out=points_NF)
        return points_NF


class Moments:
    """Sums over rows whose features are on a grid.

    Attributes:
        grid: the grid.
        rows: how many rows were added.
    """

    def __init__(self, grid: FeatureGrid) -> None:
        width = len(grid.origin_F)
        self.grid = grid
        self.rows = 0
        self._sums_F = np.zeros(width)
        self._products_FF = np.zeros((width, width))

    def add(self, features_NF: np.ndarray) -> None:
        """Add rows, float32.

        Raises:
            OverflowError: when there are so many rows that the sums are not exact any more.
        """
        points_NF = self.grid.points(features_NF)
        self._count(len(points_NF))
        self._sums_F += points_NF.sum(axis=0)
        # By blocks, because the product of all is as large as the sums.
        for start in range(0, points_NF.shape[1], _BLOCK):
            block = slice(start, start + _BLOCK)
            self._products_FF[block] += points_NF[:, block].T @ points_NF

    def merge(self, other: Moments) -> None:
        """Add the rows of other moments on the same grid. Raises OverflowError; see :meth:`add`."""
        self._count(other.rows)
        self._sums_F += other._sums_F
        self._products_FF += other._products_FF

    @property
    def mean_F(self) -> np.ndarray:  # noqa: N802 - as fields are called
        """The mean of each feature, float64."""
        mean_F: np.ndarray = self.grid.origin_F + self._sums_F / self.rows * self.grid.step_F
        return mean_F

    @property
    def covariance_FF(self) -> np.ndarray:  # noqa: N802 - as fields are called
        """The covariance of each two features, float64."""
        mean_F = self._sums_F / self.rows
        covariance_FF = self._products_FF / self.rows
        covariance_FF -= np.outer(mean_F, mean_F)
        covariance_FF *= self.grid.step_F[:, None]
        covariance_FF *= self.grid.step_F
        return covariance_FF

    def _count(self, rows: int) -> None:
        self.rows += rows
        if self.rows * (GRID * LIMIT) ** 2 >= _EXACT:
            raise OverflowError(f"sums over {self.rows} rows are not exact in float64")
