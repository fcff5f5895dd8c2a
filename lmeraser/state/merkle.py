"""The state root: a Merkle tree over named leaves, and the paths that prove one leaf.

Leaves and nodes are hashed under different prefixes (RFC 6962, section 2.1), so that one cannot be mistaken for the
other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lmeraser.errors import ReceiptError
from lmeraser.hashing import canonical_json


@dataclass(frozen=True)
class MerklePath:
    """The way from one leaf to the root.

    Attributes:
        name: the part of the state, such as ``rows/<cluster>``.
        leaf: its keyed digest.
        siblings: from the leaf upwards, each with its side ("left" or "right").
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
    """The root over the leaves, sorted by name."""
    return _levels(leaves)[-1][0].hex()


def merkle_paths(leaves: Mapping[str, str], names: Sequence[str]) -> list[MerklePath]:
    """The paths of several leaves, in the order of the names. Each node is hashed once.

    Raises:
        KeyError: when there is no leaf of that name.
    """
    levels = _levels(leaves)
    position = {name: index for index, name in enumerate(sorted(leaves))}
    return [MerklePath(name, leaves[name], _siblings(levels, position[name])) for name in names]


def _siblings(levels: Sequence[Sequence[bytes]], position: int) -> tuple[tuple[str, str], ...]:
    """The siblings on the way from the leaf at this position to the root."""
    siblings: list[tuple[str, str]] = []
    for level in levels[:-1]:
        sibling = position ^ 1
        if sibling < len(level):
            siblings.append(("left" if sibling < position else "right", level[sibling].hex()))
        position //= 2
    return tuple(siblings)


def _levels(leaves: Mapping[str, str]) -> list[list[bytes]]:
    """Hashes level by level, leaves first. A node without a sibling moves up unchanged."""
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
