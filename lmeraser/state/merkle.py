"""The state root: a Merkle tree over named leaves, and the paths that prove one leaf.

Leaves and nodes are hashed under different prefixes (RFC 6962, section 2.1), so that one cannot be mistaken for the
other. The tree is a binary radix tree over the SHA-256 of the names: which leaves there are alone decides its shape,
and a change of one leaf changes only the nodes above it (decision 49).
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lmeraser.errors import ReceiptError
from lmeraser.hashing import canonical_json

_BITS = 256


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


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A leaf at its address, the SHA-256 of its name."""

    address: int
    name: str
    value: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class _Branch:
    """Leaves whose addresses share the bits before ``bit``, parted by that bit; ``address`` is that of any of them."""

    bit: int
    address: int
    left: _Node
    right: _Node
    digest: bytes


_Node = _Leaf | _Branch


@dataclass(frozen=True)
class MerkleTree:
    """Leaves by name. Immutable: a changed tree shares all nodes that did not change."""

    _top: _Node | None = None

    @staticmethod
    def of(leaves: Mapping[str, str]) -> MerkleTree:
        """The tree over these leaves."""
        made = sorted((_leaf(name, value) for name, value in leaves.items()), key=lambda leaf: leaf.address)
        return MerkleTree(_built(made, [leaf.address for leaf in made]) if made else None)

    def changed(self, leaves: Mapping[str, str], removed: Iterable[str] = ()) -> MerkleTree:
        """The tree with these leaves added or replaced, and without the removed names."""
        top = self._top
        for name in removed:
            top = _without(top, _address(name)) if top is not None else None
        for name, value in leaves.items():
            top = _with(top, _leaf(name, value)) if top is not None else _leaf(name, value)
        return MerkleTree(top)

    @property
    def root(self) -> str:
        """The root, as hex digits."""
        return (self._top.digest if self._top is not None else hashlib.sha256().digest()).hex()

    def path(self, name: str) -> MerklePath | None:
        """The path of the leaf with this name; None where there is none."""
        address, node = _address(name), self._top
        siblings: list[tuple[str, str]] = []
        while isinstance(node, _Branch):
            if _is_right(address, node.bit):
                siblings.append(("left", node.left.digest.hex()))
                node = node.right
            else:
                siblings.append(("right", node.right.digest.hex()))
                node = node.left
        if node is None or node.address != address:
            return None
        return MerklePath(name, node.value, tuple(reversed(siblings)))


def merkle_root(leaves: Mapping[str, str]) -> str:
    """The root over these leaves."""
    return MerkleTree.of(leaves).root


def _built(leaves: Sequence[_Leaf], addresses: Sequence[int]) -> _Node:
    """The node over these leaves, at least one, sorted by their addresses."""
    if len(leaves) == 1:
        return leaves[0]
    bit = _first_difference(addresses[0], addresses[-1])
    # The first address whose bit is set: those before are below it.
    middle = bisect_left(addresses, (addresses[-1] >> (_BITS - 1 - bit)) << (_BITS - 1 - bit))
    return _branch(bit, _built(leaves[:middle], addresses[:middle]), _built(leaves[middle:], addresses[middle:]))


def _with(node: _Node, leaf: _Leaf) -> _Node:
    bit = _first_difference(node.address, leaf.address)
    if isinstance(node, _Branch) and bit >= node.bit:
        if _is_right(leaf.address, node.bit):
            return _branch(node.bit, node.left, _with(node.right, leaf))
        return _branch(node.bit, _with(node.left, leaf), node.right)
    if bit == _BITS:
        return leaf
    return _branch(bit, node, leaf) if _is_right(leaf.address, bit) else _branch(bit, leaf, node)


def _without(node: _Node, address: int) -> _Node | None:
    if isinstance(node, _Leaf):
        return None if node.address == address else node
    if _is_right(address, node.bit):
        right = _without(node.right, address)
        return node.left if right is None else _branch(node.bit, node.left, right)
    left = _without(node.left, address)
    return node.right if left is None else _branch(node.bit, left, node.right)


def _branch(bit: int, left: _Node, right: _Node) -> _Branch:
    return _Branch(bit, left.address, left, right, _node_hash(left.digest, right.digest))


def _leaf(name: str, value: str) -> _Leaf:
    return _Leaf(_address(name), name, value, _leaf_hash(name, value))


def _address(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest(), "big")


def _first_difference(first: int, second: int) -> int:
    """The first bit, counted from the highest, in which two addresses differ; 256 where none does."""
    return _BITS - (first ^ second).bit_length()


def _is_right(address: int, bit: int) -> bool:
    return address >> (_BITS - 1 - bit) & 1 == 1


def _leaf_hash(name: str, leaf: str) -> bytes:
    return hashlib.sha256(b"\x00" + canonical_json([name, leaf])).digest()


def _node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()
