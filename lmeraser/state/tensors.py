"""Named tensors as safetensors files."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from lmeraser.errors import ObjectCorruptError


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
