"""Arrays of hashes of 32 bytes each, uint8 [M, 32].

Legend: M hashes.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

_BYTES = 32


def from_hex(hashes: Iterable[str]) -> np.ndarray:
    """Hashes in hex digits as an array."""
    return np.frombuffer(bytes.fromhex("".join(hashes)), np.uint8).reshape(-1, _BYTES)


def as_hashes(hashes: Iterable[bytes]) -> np.ndarray:
    """Hashes in bytes as an array."""
    return np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, _BYTES)


def as_strings(hashes_M32: np.ndarray) -> np.ndarray:
    """An array [M] that is sorted and compared as the bytes of the hashes are."""
    return np.ascontiguousarray(hashes_M32).view(f"S{_BYTES}").reshape(-1)
