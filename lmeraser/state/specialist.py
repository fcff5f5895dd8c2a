"""A specialist: a cluster's prompt, and the features of its rows under that prompt.

In the store, the prompt is an object of its own, and the features of each segment's rows are another.

Legend: N rows, H head features; a prompt is [3, P, P] (pad) or [T, D] (token).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from lmeraser.state.hash_arrays import as_hashes
from lmeraser.state.rows import RowTable
from lmeraser.state.segment import prompted_digest
from lmeraser.state.tensors import TensorObject


@dataclass(frozen=True)
class Specialist:
    """The result of one tuning.

    Attributes:
        prompt: float32, one prompt.
        features_NH: int16, head features on the grid under the prompt, in the order of the rows' sample ids.
        labels_N: int64, the rows' labels.
    """

    prompt: np.ndarray
    features_NH: np.ndarray
    labels_N: np.ndarray

    def digests(self, rows: RowTable) -> tuple[str, str]:
        """SHA-256 of the prompt, and of the prompted features of these rows, which the specialist is of."""
        return Prompt(self.prompt).digest(), prompted_digest(as_hashes(rows.row_digests()), self.features_NH)


@dataclass(frozen=True)
class Prompt(TensorObject):
    """A cluster's prompt as an object of the store: all that serving needs of the cluster.

    Attributes:
        values: float32, one prompt.
    """

    values: np.ndarray

    def tensors(self) -> dict[str, np.ndarray]:
        """The tensor by name."""
        return {"prompt": self.values}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray]) -> Self:
        """The prompt from its tensor. Raises KeyError when it is missing."""
        return cls(tensors["prompt"])


@dataclass(frozen=True)
class PromptedFeatures(TensorObject):
    """The prompted features of a segment's rows as an object of the store.

    Attributes:
        features_NH: int16, head features on the grid, in the order of the segment's rows.
    """

    features_NH: np.ndarray

    def tensors(self) -> dict[str, np.ndarray]:
        """The tensor by name."""
        return {"features_NH": self.features_NH}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray]) -> Self:
        """The features from their tensor. Raises KeyError when it is missing."""
        return cls(tensors["features_NH"])


@dataclass(frozen=True)
class FeaturesOfRows:
    """Features of some rows, with their labels.

    Attributes:
        features_NH: int16, head features on the grid.
        labels_N: int64, index into the declared labels.
    """

    features_NH: np.ndarray
    labels_N: np.ndarray

    @staticmethod
    def joined(parts: Sequence[FeaturesOfRows]) -> FeaturesOfRows:
        """The rows of all parts, at least one."""
        features_NH = np.concatenate([part.features_NH for part in parts])
        return FeaturesOfRows(features_NH, np.concatenate([part.labels_N for part in parts]))


@dataclass(frozen=True)
class RemovedFeatures(TensorObject):
    """What an owner gives the coordinator of the rows that it removed, for the sums that they leave.

    Attributes:
        shared: under the public prompt, of all removed rows.
        pooled: under the cluster's prompt, of those that had such features and whose cluster keeps its prompt.
    """

    shared: FeaturesOfRows
    pooled: FeaturesOfRows

    def tensors(self) -> dict[str, np.ndarray]:
        """The tensors by name."""
        return {
            "shared.features_NH": self.shared.features_NH,
            "shared.labels_N": self.shared.labels_N,
            "pooled.features_NH": self.pooled.features_NH,
            "pooled.labels_N": self.pooled.labels_N,
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray]) -> Self:
        """The features from their tensors. Raises KeyError when one is missing."""
        return cls(
            *(
                FeaturesOfRows(tensors[f"{head}.features_NH"], tensors[f"{head}.labels_N"])
                for head in ("shared", "pooled")
            )
        )
