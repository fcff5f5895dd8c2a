"""Canonical digests, and the keyed leaves of the state root.

Digests are over content (names, dtypes, shapes, bytes) and never over container files, because the same table or
tensors can be written as different Parquet or safetensors bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from lmeraser.hashing import HashKey, canonical_json


def json_digest(value: Any) -> str:
    """SHA-256 of a JSON value's canonical bytes."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def tensor_digest(tensors: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over the tensors sorted by name: name, dtype, shape, little-endian bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(canonical_json([name, array.dtype.str, list(array.shape)]))
        digest.update(array.tobytes())
    return digest.hexdigest()


def state_leaf(hash_key: HashKey, name: str, digest: str) -> str:
    """The keyed digest of one part of the state: a leaf of the state root.

    It is keyed, because a plain digest of a deterministic state would let anyone who has the other rows test whether
    a candidate row was among them.
    """
    return hash_key.of("state", name, digest)
