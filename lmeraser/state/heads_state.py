"""The statistics of both heads and the heads solved from them, as one object of the store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from lmeraser.errors import ObjectCorruptError
from lmeraser.learning.heads import Head, Statistics, solve
from lmeraser.state.digests import tensor_digest
from lmeraser.state.tensors import tensors_from_bytes, tensors_to_bytes


@dataclass(frozen=True)
class HeadsState:
    """Sums over all rows, and the heads that follow from them.

    Attributes:
        shared: statistics of the features of all rows under the public prompt, or under none where the store has none.
        pooled: statistics of the features under their own cluster's prompt, of all rows whose cluster has a specialist.
        shared_head, pooled_head: the heads solved from them.
    """

    shared: Statistics
    pooled: Statistics
    shared_head: Head
    pooled_head: Head

    @staticmethod
    def of(shared: Statistics, pooled: Statistics) -> HeadsState:
        """Solve both heads, in two threads."""
        with ThreadPoolExecutor(2) as threads:
            return HeadsState(shared, pooled, *threads.map(solve, (shared, pooled)))

    def with_pooled(self, pooled: Statistics) -> HeadsState:
        """The heads after specialists changed; only the pooled head is solved again."""
        return replace(self, pooled=pooled, pooled_head=solve(pooled))

    @staticmethod
    def empty(head_dim: int, classes: int) -> HeadsState:
        """The heads of no rows."""
        nothing = Statistics.zero(head_dim, classes)
        return HeadsState.of(nothing, nothing)

    def digest(self) -> str:
        """SHA-256 over the content."""
        return tensor_digest(self._tensors())

    def to_safetensors(self) -> bytes:
        """The state as a safetensors file."""
        return tensors_to_bytes(self._tensors())

    @staticmethod
    def from_safetensors(data: bytes, name: str) -> HeadsState:
        """Read what :meth:`to_safetensors` wrote; ``name`` is for the message.

        Raises:
            ObjectCorruptError: when the bytes are not such a file.
        """
        tensors = tensors_from_bytes(data, name)
        try:
            return HeadsState(
                Statistics.from_tensors(tensors, "shared."),
                Statistics.from_tensors(tensors, "pooled."),
                _head_from(tensors, "shared_head."),
                _head_from(tensors, "pooled_head."),
            )
        except (KeyError, ValueError) as error:
            raise ObjectCorruptError(f"{name} is not a heads file: {error}") from error

    def _tensors(self) -> dict[str, np.ndarray]:
        return {
            **self.shared.tensors("shared."),
            **self.pooled.tensors("pooled."),
            **_head_tensors(self.shared_head, "shared_head."),
            **_head_tensors(self.pooled_head, "pooled_head."),
        }


def _head_tensors(head: Head, prefix: str) -> dict[str, np.ndarray]:
    return {
        f"{prefix}weight_HC": head.weight_HC,
        f"{prefix}bias_C": head.bias_C,
        f"{prefix}penalty": np.array([head.penalty], np.float64),
        f"{prefix}unexplained": np.array([head.unexplained], np.float64),
    }


def _head_from(tensors: dict[str, np.ndarray], prefix: str) -> Head:
    penalty, unexplained = (float(tensors[f"{prefix}{name}"].item()) for name in ("penalty", "unexplained"))
    return Head(tensors[f"{prefix}weight_HC"], tensors[f"{prefix}bias_C"], penalty, unexplained)
