"""Canonical bytes, draws and keyed hashes: functions of their arguments alone."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Any

from lmeraser.ids import comparable

# Made once, because every row is hashed.
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: Any) -> bytes:
    """The canonical bytes of a JSON value: sorted keys, no spaces, UTF-8, no NaN.

    For values of strings, integers of at most 53 bits, booleans, nulls, lists and objects whose keys are in the Basic
    Multilingual Plane, the bytes are those of RFC 8785 (JSON Canonicalization Scheme). Receipts and log records contain
    nothing else, so any implementation of RFC 8785 can check their signatures and digests. Other values differ: floats
    are written as Python writes them, and keys are sorted by code point instead of UTF-16 code unit.

    Raises:
        ValueError: when a number is infinite or not a number, or a string has a lone surrogate.
    """
    return _ENCODER.encode(value).encode()


def draw(seed: int, *parts: str | int) -> bytes:
    """Thirty-two uniform bytes that are a function of the seed and the parts alone.

    Every random choice about a private row is drawn this way, so that it does not depend on the number of other rows or
    on their order.
    """
    return hashlib.sha256(canonical_json([seed, *parts])).digest()


def draw_uint64(seed: int, *parts: str | int) -> int:
    """The first eight bytes of :func:`draw` as an unsigned integer."""
    return int.from_bytes(draw(seed, *parts)[:8], "big")


def row_bits(seed: int, sample_id: str, subject_id: str | None) -> int:
    """Sixty-four bits that divide rows below an anchor: hash(seed, subject_id), so that a subject's rows share them.

    A row without a subject gets its bits from its sample id, in a domain apart from that of subjects.
    """
    if subject_id is None:
        return draw_uint64(seed, "no subject", comparable(sample_id))
    return draw_uint64(seed, "subject", comparable(subject_id))


@dataclass(frozen=True, repr=False)
class HashKey:
    """Thirty-two secret bytes under which ids and digests are hashed before they are written."""

    secret: bytes

    def of(self, *parts: str | int) -> str:
        """HMAC-SHA256 of the parts, as hex digits."""
        return hmac.digest(self.secret, canonical_json(list(parts)), "sha256").hex()


def sample_hash(hash_key: HashKey, sample_id: str) -> str:
    """The keyed hash that stands for a sample id in the log, in segment indexes and in receipts."""
    return hash_key.of("sample", comparable(sample_id))


def subject_hash(hash_key: HashKey, subject_id: str) -> str:
    """The keyed hash that stands for a subject id in the log, in segment indexes and in receipts."""
    return hash_key.of("subject", comparable(subject_id))


def row_hashes(hash_key: HashKey, sample_id: str, subject_id: str | None) -> frozenset[str]:
    """The keyed hashes by which a request may name a row: its sample id's and, where it has one, its subject's."""
    sample = sample_hash(hash_key, sample_id)
    return frozenset((sample,) if subject_id is None else (sample, subject_hash(hash_key, subject_id)))
