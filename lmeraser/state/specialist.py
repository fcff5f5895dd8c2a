"""A specialist: a cluster's prompt, and the features of its rows under that prompt.

Legend: N rows, H head features; a prompt is [3, P, P] (pad) or [T, D] (token).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lmeraser.errors import ObjectCorruptError
from lmeraser.state.digests import tensor_digest
from lmeraser.state.tensors import tensors_from_bytes, tensors_to_bytes


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

    def digest(self) -> str:
        """SHA-256 over the content."""
        return tensor_digest(self._tensors())

    def to_safetensors(self) -> bytes:
        """The specialist as a safetensors file."""
        return tensors_to_bytes(self._tensors())

    @staticmethod
    def from_safetensors(data: bytes, name: str) -> Specialist:
        """Read what :meth:`to_safetensors` wrote; ``name`` is for the message.

        Raises:
            ObjectCorruptError: when the bytes are not such a file.
        """
        tensors = tensors_from_bytes(data, name)
        try:
            return Specialist(tensors["prompt"], tensors["features_NH"], tensors["labels_N"])
        except KeyError as error:
            raise ObjectCorruptError(f"{name} is not a specialist file: {error} is missing") from error

    def _tensors(self) -> dict[str, np.ndarray]:
        return {"prompt": self.prompt, "features_NH": self.features_NH, "labels_N": self.labels_N}
