"""Named tensors as safetensors files, and the objects that are stored as such."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Self

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from lmeraser.errors import ObjectCorruptError
from lmeraser.state.digests import tensor_digest


def tensors_to_bytes(tensors: Mapping[str, np.ndarray]) -> bytes:
    """The tensors as a safetensors file."""
    # safetensors writes an array's buffer as it is, so a transposed view would be read back scrambled.
    return save({name: np.ascontiguousarray(array) for name, array in tensors.items()})


def tensors_from_bytes(data: bytes, name: str) -> dict[str, np.ndarray]:
    """Read what :func:`tensors_to_bytes` wrote; ``name`` is for the message.

    Raises:
        ObjectCorruptError: when the bytes are not a safetensors file.
    """
    try:
        return dict(load(data))
    except (SafetensorError, ValueError, KeyError) as error:
        raise ObjectCorruptError(f"{name} is not a safetensors file: {error}") from error


class TensorObject(ABC):
    """An object of the store that consists of named tensors."""

    @abstractmethod
    def tensors(self) -> dict[str, np.ndarray]:
        """The tensors by name."""

    @classmethod
    @abstractmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray]) -> Self:
        """The object from its tensors. Raises KeyError when one is missing, ValueError when one is malformed."""

    def digest(self) -> str:
        """SHA-256 over the content."""
        return tensor_digest(self.tensors())

    def to_safetensors(self) -> bytes:
        """The object as a safetensors file."""
        return tensors_to_bytes(self.tensors())

    @classmethod
    def from_safetensors(cls, data: bytes, name: str) -> Self:
        """Read what :meth:`to_safetensors` wrote; ``name`` is for the message.

        Raises:
            ObjectCorruptError: when the bytes are not such a file.
        """
        tensors = tensors_from_bytes(data, name)
        try:
            return cls.from_tensors(tensors)
        except (KeyError, ValueError) as error:
            raise ObjectCorruptError(f"{name} is not a file of {cls.__name__}: {error!r}") from error
