"""A specialist: a cluster's prompt, and the features of its rows under that prompt.

Legend: N rows, H head features; a prompt is [3, P, P] (pad) or [T, D] (token).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from lmeraser.state.tensors import TensorObject


@dataclass(frozen=True)
class Specialist(TensorObject):
    """The result of one tuning.

    Attributes:
        prompt: float32, one prompt.
        features_NH: int16, head features on the grid under the prompt, in the order of the rows' sample ids.
        labels_N: int64, the rows' labels.
    """

    prompt: np.ndarray
    features_NH: np.ndarray
    labels_N: np.ndarray

    def tensors(self) -> dict[str, np.ndarray]:
        """The tensors by name."""
        return {"prompt": self.prompt, "features_NH": self.features_NH, "labels_N": self.labels_N}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray]) -> Self:
        """The specialist from its tensors. Raises KeyError when one is missing."""
        return cls(tensors["prompt"], tensors["features_NH"], tensors["labels_N"])
