"""Canonical bytes, draws and keyed hashes that depend on nothing but their arguments."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Any

from lmeraser.ids import comparable

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


def row_bits(seed: int, sample_id: str, subject_id: str | None) -> int:
    """Sixty-four bits that divide rows below an anchor: hash(seed, subject_id), so that a subject's rows share them.

    Those of a row without a subject come from its sample id, and never from the domain of the subjects.
    """
    if subject_id is None:
        return draw_uint64(seed, "no subject", comparable(sample_id))
    return draw_uint64(seed, "subject", comparable(subject_id))


@dataclass(frozen=True, repr=False)
class HashKey:
    """Thirty-two secret bytes under which ids and digests are hashed before they are written down."""

    secret: bytes

    def of(self, *parts: str | int) -> str:
        """HMAC-SHA256 of the parts, as hex digits."""
        return hmac.digest(self.secret, canonical_json(list(parts)), "sha256").hex()
