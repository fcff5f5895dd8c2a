"""Digests, the Merkle tree against RFC 6962's own recursion, and the fingerprint."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmeraser.errors import FingerprintError, ReceiptError
from lmeraser.hashing import HashKey
from lmeraser.state.digests import json_digest, state_leaf, tensor_digest
from lmeraser.state.fingerprint import check_fingerprint, fingerprint
from lmeraser.state.merkle import MerklePath, MerkleTree, merkle_root

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)
LEAVES = st.dictionaries(NAMES, DIGESTS, max_size=20)
SOME_LEAVES = st.dictionaries(NAMES, DIGESTS, min_size=1, max_size=20)

# A busy machine is no reason to fail.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def radix_root(leaves: dict[str, str], bit: int = 0) -> bytes:
    """The hash over leaves whose addresses share the bits before this one, written as decision 49 words it."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        (entry,) = leaves.items()
        return hashlib.sha256(b"\x00" + json.dumps(entry, separators=(",", ":"), ensure_ascii=False).encode()).digest()
    sides: tuple[dict[str, str], dict[str, str]] = ({}, {})
    for name, leaf in leaves.items():
        sides[hashlib.sha256(name.encode()).digest()[bit // 8] >> (7 - bit % 8) & 1][name] = leaf
    if not all(sides):
        return radix_root(leaves, bit + 1)
    return hashlib.sha256(b"\x01" + radix_root(sides[0], bit + 1) + radix_root(sides[1], bit + 1)).digest()


def tensors() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        "prompt": generator.normal(size=(3, 4)).astype(np.float32),
        "counts": np.arange(6, dtype=np.int64),
        "mask": np.array([True, False]),
    }


def test_a_json_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert json_digest({"a": 1, "b": [2, "é"]}) == json_digest({"b": [2, "é"], "a": 1})
    assert json_digest({"a": 1, "b": [2, "é"]}) == hashlib.sha256('{"a":1,"b":[2,"é"]}'.encode()).hexdigest()


def test_a_json_digest_depends_on_every_value() -> None:
    digests = [json_digest(value) for value in ({"a": 1}, {"a": 2}, {"b": 1}, {"a": "1"}, {"a": [1]}, {})]
    assert len(set(digests)) == len(digests)


def test_a_tensor_digest_does_not_depend_on_the_order_of_the_names() -> None:
    names = list(tensors())
    for order in (names, names[::-1], [names[1], names[0], names[2]]):
        assert tensor_digest({name: tensors()[name] for name in order}) == tensor_digest(tensors())


@pytest.mark.parametrize("layout", ["fortran", "strided", "transposed twice", "big-endian"])
def test_a_tensor_digest_does_not_depend_on_memory_layout(layout: str) -> None:
    array = tensors()["prompt"]
    wide = np.zeros((6, 8), np.float32)
    wide[::2, ::2] = array
    same = {
        "fortran": np.asfortranarray(array),
        "strided": wide[::2, ::2],
        "transposed twice": array.T.copy().T,
        "big-endian": array.astype(">f4"),
    }[layout]
    assert same.tobytes() != array.tobytes() or same.strides != array.strides
    assert tensor_digest({"prompt": same}) == tensor_digest({"prompt": array})


def test_a_tensor_digest_depends_on_name_dtype_shape_and_bytes() -> None:
    array = np.array([1, 2, 3, 4], np.int32)
    flipped = array.copy()
    flipped[3] ^= 1
    others: list[dict[str, np.ndarray]] = [
        {"a": array},
        {"b": array},
        {"a": array.view(np.uint32)},
        {"a": array.astype(np.int64)},
        {"a": array.reshape(2, 2)},
        {"a": array.reshape(4, 1)},
        {"a": array[::-1]},
        {"a": flipped},
        {"a": array[:3]},
        {"a": array, "b": array},
        {"a": array, "b": array[:0]},
        {},
    ]
    digests = [tensor_digest(each) for each in others]
    assert len(set(digests)) == len(digests)


def test_a_tensor_digest_distinguishes_negative_zero_from_zero() -> None:
    assert tensor_digest({"a": np.array([0.0])}) != tensor_digest({"a": np.array([-0.0])})


@unhurried
@given(SOME_LEAVES, st.data())
def test_a_state_root_is_that_of_the_radix_tree(leaves: dict[str, str], data: st.DataObject) -> None:
    arrival = dict(data.draw(st.permutations(list(leaves.items()))))
    assert merkle_root(arrival) == radix_root(leaves).hex()


@pytest.mark.parametrize("number", range(21))
def test_a_state_root_of_any_number_of_leaves_is_that_of_the_radix_tree(number: int) -> None:
    leaves = {f"rows/{place:02d}": hashlib.sha256(bytes([place])).hexdigest() for place in range(number)}
    assert merkle_root(leaves) == radix_root(leaves).hex()


@pytest.mark.parametrize("number", range(1, 21))
def test_every_path_leads_to_the_root(number: int) -> None:
    leaves = {f"rows/{place:02d}": hashlib.sha256(bytes([place])).hexdigest() for place in range(number)}
    root = radix_root(leaves).hex()
    names = sorted(leaves, reverse=True)
    paths = [path for name in names if (path := MerkleTree.of(leaves).path(name)) is not None]
    assert [(path.name, path.leaf, path.root()) for path in paths] == [(name, leaves[name], root) for name in names]


def path_of(leaves: dict[str, str], name: str) -> MerklePath:
    path = MerkleTree.of(leaves).path(name)
    assert path is not None
    return path


@unhurried
@given(SOME_LEAVES, st.randoms(use_true_random=False))
def test_a_changed_leaf_or_sibling_leads_elsewhere(leaves: dict[str, str], chance: random.Random) -> None:
    path = path_of(leaves, chance.choice(sorted(leaves)))
    root = merkle_root(leaves)
    other = hashlib.sha256(b"other").hexdigest()
    assert replace(path, leaf=other).root() != root
    assert replace(path, name=path.name + "x").root() != root
    for place, (side, digest) in enumerate(path.siblings):
        before, after = path.siblings[:place], path.siblings[place + 1 :]
        turned = ("left" if side == "right" else "right", digest)
        assert replace(path, siblings=(*before, (side, other), *after)).root() != root
        assert replace(path, siblings=(*before, turned, *after)).root() != root
        assert replace(path, siblings=(*before, *after)).root() != root


@pytest.mark.slow
@unhurried
@given(LEAVES, st.lists(st.tuples(LEAVES, st.lists(NAMES, max_size=8)), max_size=4))
def test_a_changed_tree_is_that_of_its_leaves(
    leaves: dict[str, str], changes: list[tuple[dict[str, str], list[str]]]
) -> None:
    tree, remaining = MerkleTree.of(leaves), dict(leaves)
    for added, removed in changes:
        names = [*removed, *list(remaining)[:2]]
        tree = tree.changed(added, names)
        remaining = {name: leaf for name, leaf in remaining.items() if name not in names} | added
    assert tree.root == radix_root(remaining).hex()


@unhurried
@given(SOME_LEAVES, NAMES, DIGESTS)
def test_a_root_depends_on_every_leaf(leaves: dict[str, str], name: str, digest: str) -> None:
    if leaves.get(name) != digest:
        assert merkle_root({**leaves, name: digest}) != merkle_root(leaves)


@unhurried
@given(LEAVES, NAMES)
def test_a_missing_leaf_has_no_path(leaves: dict[str, str], name: str) -> None:
    leaves.pop(name, None)
    assert MerkleTree.of(leaves).path(name) is None


def test_a_path_with_an_unknown_side_is_refused() -> None:
    path = path_of({"a": "00" * 32, "b": "11" * 32}, "a")
    with pytest.raises(ReceiptError, match="middle"):
        replace(path, siblings=(("middle", path.siblings[0][1]),)).root()


def test_a_state_leaf_depends_on_key_name_and_digest() -> None:
    key, other = HashKey(bytes(32)), HashKey(bytes(31) + b"\x01")
    leaves = [
        state_leaf(key, "rows/a", "00"),
        state_leaf(other, "rows/a", "00"),
        state_leaf(key, "rows/b", "00"),
        state_leaf(key, "rows/a", "01"),
    ]
    assert len(set(leaves)) == len(leaves)
    assert state_leaf(HashKey(bytes(32)), "rows/a", "00") == leaves[0]


def test_a_state_leaf_is_not_a_plain_digest() -> None:
    plain = {hashlib.sha256(text).hexdigest() for text in (b"00", b"rows/a00", b'["rows/a","00"]', b"\x00")}
    assert state_leaf(HashKey(bytes(32)), "rows/a", "00") not in plain


def test_equal_fingerprints_pass() -> None:
    check_fingerprint(fingerprint(8), fingerprint(8))


def test_a_fingerprint_holds_processor_libraries_and_batch() -> None:
    here = fingerprint(8, "a GPU")
    assert {"processor", "torch", "numpy", "faiss", "timm", "pillow", "scipy", "threads", "dtype"} <= set(here)
    assert (here["feature_batch"], here["accelerator"]) == ("8", "a GPU")


@pytest.mark.parametrize("name", sorted(fingerprint(8)))
def test_a_fingerprint_that_differs_is_refused_and_what_differs_is_named(name: str) -> None:
    here = fingerprint(8)
    stored = {**here, name: "something else"}
    with pytest.raises(FingerprintError, match="something else") as caught:
        check_fingerprint(stored, here)
    assert f"{name} is {here[name]!r} here" in str(caught.value)
    for same in set(here) - {name}:
        assert f"{same} is" not in str(caught.value)


def test_a_fingerprint_with_an_extra_or_missing_name_is_refused() -> None:
    here = fingerprint(8)
    with pytest.raises(FingerprintError, match="cuda"):
        check_fingerprint({**here, "cuda": "13"}, here)
    with pytest.raises(FingerprintError, match="torch"):
        check_fingerprint({name: value for name, value in here.items() if name != "torch"}, here)
