"""The statistics of both heads and the heads solved from them: an object of the store each.

Sums grow with the square of the features' width, heads with the width alone. So what answers reads only heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from lmeraser.learning.heads import Head, Statistics, solve
from lmeraser.parallel import in_parallel
from lmeraser.state.layout import HEADS_PART, SUMS_PART
from lmeraser.state.tensors import TensorObject


@dataclass(frozen=True)
class Sums(TensorObject):
    """Sums over all rows.

    Attributes:
        shared: statistics of the features of all rows under the public prompt, or under none where the store has none.
        pooled: statistics of the features under their own cluster's prompt, of all rows whose cluster has a specialist.
    """

    shared: Statistics
    pooled: Statistics

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray]) -> Self:
        """The sums from their tensors. Raises KeyError when one is missing, ValueError when one is malformed."""
        return cls(Statistics.from_tensors(tensors, "shared."), Statistics.from_tensors(tensors, "pooled."))

    def tensors(self) -> dict[str, np.ndarray]:
        """The tensors by name."""
        return {**self.shared.tensors("shared."), **self.pooled.tensors("pooled.")}


@dataclass(frozen=True)
class SolvedHeads(TensorObject):
    """The shared and the pooled head."""

    shared: Head
    pooled: Head

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray]) -> Self:
        """The heads from their tensors. Raises KeyError when one is missing, ValueError when one is malformed."""
        return cls(_head_from(tensors, "shared."), _head_from(tensors, "pooled."))

    def tensors(self) -> dict[str, np.ndarray]:
        """The tensors by name."""
        return {**_head_tensors(self.shared, "shared."), **_head_tensors(self.pooled, "pooled.")}


@dataclass(frozen=True)
class HeadsState:
    """Sums over all rows, and the heads that follow from them."""

    sums: Sums
    solved: SolvedHeads

    @staticmethod
    def of(shared: Statistics, pooled: Statistics) -> HeadsState:
        """Solve both heads, side by side."""
        return HeadsState(Sums(shared, pooled), SolvedHeads(*in_parallel(solve, (shared, pooled))))

    def with_pooled(self, pooled: Statistics) -> HeadsState:
        """The heads after specialists changed; only the pooled head is solved again."""
        return HeadsState(replace(self.sums, pooled=pooled), replace(self.solved, pooled=solve(pooled)))

    @staticmethod
    def empty(head_dim: int, classes: int) -> HeadsState:
        """The heads of no rows."""
        nothing = Statistics.zero(head_dim, classes)
        return HeadsState.of(nothing, nothing)

    def digests(self) -> dict[str, str]:
        """SHA-256 over the content of each part of the state."""
        return {SUMS_PART: self.sums.digest(), HEADS_PART: self.solved.digest()}


def _head_tensors(head: Head, prefix: str) -> dict[str, np.ndarray]:
    return {
        f"{prefix}weight_HC": head.weight_HC,
        f"{prefix}bias_C": head.bias_C,
        f"{prefix}penalty": np.array([head.penalty], np.float64),
        f"{prefix}unexplained": np.array([head.unexplained], np.float64),
    }


def _head_from(tensors: Mapping[str, np.ndarray], prefix: str) -> Head:
    penalty, unexplained = (float(tensors[f"{prefix}{name}"].item()) for name in ("penalty", "unexplained"))
    return Head(tensors[f"{prefix}weight_HC"], tensors[f"{prefix}bias_C"], penalty, unexplained)
