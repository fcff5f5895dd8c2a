"""Draws and digests that depend on nothing but their arguments."""

from __future__ import annotations

import hashlib
import json
from typing import Any

# Made once: each row has a digest of its own.
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: Any) -> bytes:
    """The one byte string for a JSON value: sorted keys, no spaces, UTF-8, no NaN."""
    return _ENCODER.encode(value).encode()


def draw(seed: int, *parts: str | int) -> bytes:
    """Thirty-two uniform bytes that are a function of the seed and the parts alone.

    Every random choice about a private row is drawn this way, so that it does not depend on
    how many other rows there are or in which order they came.
    """
    return hashlib.sha256(canonical_json([seed, *parts])).digest()


def draw_uint64(seed: int, *parts: str | int) -> int:
    """The first eight bytes of :func:`draw` as an unsigned integer."""
    return int.from_bytes(draw(seed, *parts)[:8], "big")


def subject_bits(seed: int, subject_id: str) -> int:
    """Sixty-four bits that divide subjects below an anchor: hash(seed, subject_id)."""
    return draw_uint64(seed, "subject", subject_id)
