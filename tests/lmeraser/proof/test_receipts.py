"""Receipts: what is signed, what is caught, and whom a receipt covers."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lmeraser.errors import KeysError, ReceiptError
from lmeraser.hashing import HashKey, sample_hash, subject_hash
from lmeraser.proof.receipts import covers, key_check, row_paths, verify_receipt
from lmeraser.state.merkle import MerkleTree, merkle_root
from lmeraser.state.signatures import sign

HASH_KEY = HashKey(bytes(range(32)))
KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(b"o" * 32)


def leaves(version: str) -> dict[str, str]:
    return {
        name: hashlib.sha256(f"{version} {name}".encode()).hexdigest()
        for name in ("heads", "partition", "rows/00", "rows/01", "rows/02", "prompt/00", "prompted/00")
    }


def body() -> dict[str, Any]:
    clusters = ("00", "02")
    return {
        "format": 1,
        "deletion": "d-1",
        "store": "store-1",
        "key_check": key_check(HASH_KEY, "d-1"),
        "samples": [sample_hash(HASH_KEY, "digit-0001"), sample_hash(HASH_KEY, "digit-0002")],
        "subjects": [subject_hash(HASH_KEY, "person 7")],
        "rows": 2,
        "unknown": 1,
        "accepted_at": "2026-11-27T10:00:00.000+00:00",
        "erased_at": "2026-11-27T10:00:01.000+00:00",
        "completed_at": "2026-11-27T11:00:05.000+01:00",
        "clusters": list(clusters),
        "before": {"log": 3, "root": merkle_root(leaves("a")), "rows": row_paths(MerkleTree.of(leaves("a")), clusters)},
        "after": {"log": 5, "root": merkle_root(leaves("b")), "rows": row_paths(MerkleTree.of(leaves("b")), clusters)},
        "completed": {"log": 6, "root": merkle_root(leaves("b"))},
        "fingerprint": {"cpu": "naïve"},
        "code": "0.1.0",
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": body()["samples"][:1] * 2}, "sample hash .* twice"),
        ({"subjects": body()["subjects"] * 2}, "subject .* twice"),
        ({"clusters": ["00", "02", "02"]}, "the cluster 02 twice"),
        ({"completed": {"log": 5, "root": "0" * 64}}, "commit 5, but with different state roots"),
    ],
)
def test_a_signed_receipt_that_counts_twice_or_has_two_states_of_one_commit_is_refused(
    changes: dict[str, Any], message: str
) -> None:
    receipt = body()
    verify_receipt(sign({**receipt, "completed": {**receipt["after"], "rows": []}}, KEY), KEY.public_key())
    with pytest.raises(ReceiptError, match=message):
        verify_receipt(sign({**receipt, **changes}, KEY), KEY.public_key())


def as_sent(receipt: dict[str, Any]) -> dict[str, Any]:
    """The receipt after it went through a file."""
    value: dict[str, Any] = json.loads(json.dumps(receipt))
    return value


def changed_copies(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[str, Callable[[Any], None]]]:
    """For every scalar, list and object in the receipt, a function that changes that one in a copy."""

    def parent(receipt: Any) -> Any:
        for step in path[:-1]:
            receipt = receipt[step]
        return receipt

    if isinstance(value, dict):
        for name, item in value.items():
            yield from changed_copies(item, (*path, name))
        yield f"{path} + key", lambda receipt: (parent(receipt)[path[-1]] if path else receipt).update(added=1)
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from changed_copies(item, (*path, place))
        yield f"{path} - last", lambda receipt: parent(receipt)[path[-1]].pop()
        if len(value) > 1:
            yield f"{path} reversed", lambda receipt: parent(receipt)[path[-1]].reverse()
    else:
        other = value + 1 if isinstance(value, int) else _other_text(value)
        yield f"{path}", lambda receipt: parent(receipt).__setitem__(path[-1], other)
    if path and not isinstance(path[-1], int):
        yield f"{path} removed", lambda receipt: parent(receipt).__delitem__(path[-1])


def _other_text(text: str) -> str:
    return ("1" if text[0] != "1" else "2") + text[1:]


CHANGES = dict(changed_copies(as_sent(sign(body(), KEY))))


def test_a_signed_receipt_is_valid() -> None:
    verify_receipt(as_sent(sign(body(), KEY)), KEY.public_key())


def test_a_receipt_keeps_what_was_signed() -> None:
    receipt = sign(body(), KEY)
    assert {name: value for name, value in receipt.items() if name != "signature"} == body()


def test_a_signature_is_ed25519_over_the_canonical_json_of_the_rest() -> None:
    receipt = as_sent(sign(body(), KEY))
    signature = bytes.fromhex(receipt.pop("signature"))
    text = json.dumps(receipt, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    KEY.public_key().verify(signature, text.encode())


def test_the_order_of_keys_does_not_matter() -> None:
    receipt = sign(body(), KEY)
    verify_receipt(dict(reversed(receipt.items())), KEY.public_key())


def test_a_receipt_that_was_signed_again_is_valid() -> None:
    verify_receipt(sign(sign(body(), OTHER_KEY), KEY), KEY.public_key())


@pytest.mark.parametrize("change", CHANGES)
def test_every_changed_field_is_caught(change: str) -> None:
    original = as_sent(sign(body(), KEY))
    receipt = copy.deepcopy(original)
    CHANGES[change](receipt)
    assert receipt != original
    with pytest.raises(ReceiptError, match="signature"):
        verify_receipt(receipt, KEY.public_key())


def test_another_key_does_not_verify_it() -> None:
    with pytest.raises(ReceiptError, match="signature"):
        verify_receipt(sign(body(), KEY), OTHER_KEY.public_key())


@pytest.mark.parametrize("signature", ["", "00", "not hex", "00" * 64, None, 7])
def test_a_malformed_signature_is_refused(signature: Any) -> None:
    with pytest.raises(ReceiptError, match="signature"):
        verify_receipt({**sign(body(), KEY), "signature": signature}, KEY.public_key())


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("what", ["root", "leaf", "sibling"])
def test_a_signed_path_that_does_not_lead_to_the_root_is_refused(side: str, what: str) -> None:
    wrong = body()
    row = wrong[side]["rows"][1]
    match what:
        case "root":
            wrong[side]["root"] = merkle_root(leaves("c"))
        case "leaf":
            row["leaf"] = leaves("c")["rows/02"]
        case "sibling":
            row["siblings"] = (("left", "00" * 32), *row["siblings"][1:])
    with pytest.raises(ReceiptError, match=rf"rows/0\d {side} does not lead"):
        verify_receipt(as_sent(sign(wrong, KEY)), KEY.public_key())


def test_paths_are_given_for_the_clusters_that_the_state_has() -> None:
    paths = row_paths(MerkleTree.of(leaves("a")), ("02", "77", "00"))
    assert [path["name"] for path in paths] == ["rows/02", "rows/00"]
    assert row_paths(MerkleTree.of(leaves("a")), ()) == []


def test_a_receipt_covers_its_samples_and_its_subjects_and_no_others() -> None:
    receipt = as_sent(sign(body(), KEY))
    assert covers(receipt, HASH_KEY, "digit-0001")
    assert covers(receipt, HASH_KEY, "digit-0002")
    assert covers(receipt, HASH_KEY, "person 7")
    for other in ("digit-0003", "person 8", "", "digit-000", "Digit-0001", receipt["samples"][0]):
        assert not covers(receipt, HASH_KEY, other)


def test_a_receipt_cannot_be_searched_under_another_hash_key() -> None:
    receipt = sign(body(), KEY)
    for name in ("digit-0001", "person 7", "digit-0003"):
        with pytest.raises(KeysError, match="not the one"):
            covers(receipt, HashKey(bytes(32)), name)


def test_a_receipt_contains_no_id_in_clear() -> None:
    text = json.dumps(sign(body(), KEY))
    assert "digit-0001" not in text
    assert "person 7" not in text
