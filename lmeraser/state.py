"""Canonical digests, the state root, and the fingerprint of the numerics.

Digests are over content (names, dtypes, shapes, bytes), never over container files: the same table or
tensors give different Parquet and safetensors bytes.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from lmeraser.errors import FingerprintError, ReceiptError
from lmeraser.hashing import canonical_json
from lmeraser.keys import HashKey

_LIBRARIES = ("numpy", "pillow", "scipy", "timm", "torch")


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

    It is keyed, because a plain digest of a deterministic state would let anyone who holds the other
    rows test whether a candidate row was among them.
    """
    return hash_key.of("state", name, digest)


@dataclass(frozen=True)
class MerklePath:
    """What leads from one leaf to the root.

    Attributes:
        name: the part of the state, such as ``rows/<cluster>``.
        leaf: its keyed digest.
        siblings: from the leaf upwards, each with the side on which it stands ("left" or "right").
    """

    name: str
    leaf: str
    siblings: tuple[tuple[str, str], ...]

    def root(self) -> str:
        """The root that this path leads to.

        Raises:
            ReceiptError: when a sibling's side is neither "left" nor "right".
        """
        digest = _leaf_hash(self.name, self.leaf)
        for side, sibling in self.siblings:
            if side not in ("left", "right"):
                raise ReceiptError(f"a Merkle path names the side {side!r}; allowed is left or right")
            pair = (bytes.fromhex(sibling), digest) if side == "left" else (digest, bytes.fromhex(sibling))
            digest = _node_hash(*pair)
        return digest.hex()


def merkle_root(leaves: Mapping[str, str]) -> str:
    """The root over the leaves sorted by name (RFC 6962, section 2.1: leaves and nodes hash apart)."""
    return _levels(leaves)[-1][0].hex()


def merkle_paths(leaves: Mapping[str, str], names: Sequence[str]) -> list[MerklePath]:
    """The paths of several leaves, in the order of the names; all nodes are hashed once.

    Raises:
        KeyError: when there is no such leaf.
    """
    levels = _levels(leaves)
    position = {name: place for place, name in enumerate(sorted(leaves))}
    return [MerklePath(name, leaves[name], _siblings(levels, position[name])) for name in names]


def _siblings(levels: Sequence[Sequence[bytes]], position: int) -> tuple[tuple[str, str], ...]:
    """The siblings on the way from the leaf at this position to the root."""
    siblings: list[tuple[str, str]] = []
    for level in levels[:-1]:
        beside = position ^ 1
        if beside < len(level):
            siblings.append(("left" if beside < position else "right", level[beside].hex()))
        position //= 2
    return tuple(siblings)


def _levels(leaves: Mapping[str, str]) -> list[list[bytes]]:
    """Hashes level by level, leaves first. A node without a partner moves up as it is."""
    levels = [[_leaf_hash(name, leaves[name]) for name in sorted(leaves)] or [hashlib.sha256().digest()]]
    while len(levels[-1]) > 1:
        below = levels[-1]
        pairs = [below[start : start + 2] for start in range(0, len(below), 2)]
        levels.append([_node_hash(*pair) if len(pair) == 2 else pair[0] for pair in pairs])
    return levels


def _leaf_hash(name: str, leaf: str) -> bytes:
    return hashlib.sha256(b"\x00" + canonical_json([name, leaf])).digest()


def _node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def fingerprint(feature_batch: int, accelerator: str = "") -> dict[str, str]:
    """What the bits of every result hang on besides the inputs: processor, libraries, threads, dtype.

    Args:
        feature_batch: rows in one batch of the feature extraction.
        accelerator: the GPU's name; empty where rows stay on the CPU.
    """
    # Owners need the digests alone, and FAISS with its CUDA kernels takes 100 MB of a process.
    import faiss

    return {
        "processor": _processor(),
        "accelerator": accelerator,
        "threads": "1",
        "dtype": "float32",
        "feature_batch": str(feature_batch),
        "faiss": str(faiss.__version__),
        **{name: version(name) for name in _LIBRARIES},
    }


def check_fingerprint(stored: Mapping[str, str], here: Mapping[str, str]) -> None:
    """Refuse to compute where the bits may come out otherwise.

    Raises:
        FingerprintError: when the two differ; the message names what differs.
    """
    differing = [
        f"{name} is {here.get(name)!r} here, {stored.get(name)!r} in the store"
        for name in sorted(set(stored) | set(here))
        if stored.get(name) != here.get(name)
    ]
    if differing:
        raise FingerprintError("the store was made under other numerics: " + "; ".join(differing))


def _processor() -> str:
    """Model and instruction sets, because math libraries choose their kernels by both."""
    fields: dict[str, str] = {}
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    flags = hashlib.sha256(" ".join(sorted(fields.get("flags", "").split())).encode()).hexdigest()[:8]
    return f"{platform.machine()} {fields.get('model name', platform.processor())} flags {flags}"
