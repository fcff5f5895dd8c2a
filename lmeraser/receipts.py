"""Receipts: signed statements that rows were erased, checkable without the system.

A receipt is a JSON object with a ``signature``: Ed25519 (RFC 8032) over the canonical JSON of the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from lmeraser.errors import ReceiptError
from lmeraser.hashing import canonical_json
from lmeraser.keys import HashKey
from lmeraser.state import MerklePath, merkle_paths


def sample_hash(hash_key: HashKey, sample_id: str) -> str:
    """The keyed hash that stands for a sample id in the log and in receipts."""
    return hash_key.of("sample", sample_id)


def subject_hash(hash_key: HashKey, subject_id: str) -> str:
    """The keyed hash that stands for a subject id in the log and in receipts."""
    return hash_key.of("subject", subject_id)


def row_paths(leaves: Mapping[str, str], clusters: tuple[str, ...]) -> list[dict[str, Any]]:
    """Merkle paths of these clusters' rows, where the state has them."""
    names = [name for key in clusters if (name := f"rows/{key}") in leaves]
    return [asdict(path) for path in merkle_paths(leaves, names)]


def sign(body: Mapping[str, Any], key: Ed25519PrivateKey) -> dict[str, Any]:
    """The receipt with its signature."""
    unsigned = {name: value for name, value in body.items() if name != "signature"}
    return {**unsigned, "signature": key.sign(canonical_json(unsigned)).hex()}


def verify_receipt(receipt: Mapping[str, Any], key: Ed25519PublicKey) -> None:
    """Check the signature and the Merkle paths.

    Raises:
        ReceiptError: when either does not hold; the message says which.
    """
    unsigned = {name: value for name, value in receipt.items() if name != "signature"}
    try:
        key.verify(bytes.fromhex(str(receipt.get("signature", ""))), canonical_json(unsigned))
    except (InvalidSignature, ValueError) as error:
        raise ReceiptError("the receipt's signature does not hold under this public key") from error
    for side in ("before", "after"):
        state = receipt[side]
        for path in state["rows"]:
            siblings = tuple((where, digest) for where, digest in path["siblings"])
            if MerklePath(path["name"], path["leaf"], siblings).root() != state["root"]:
                raise ReceiptError(f"the Merkle path of {path['name']} {side} does not lead to the state root")


def covers(receipt: Mapping[str, Any], hash_key: HashKey, identifier: str) -> bool:
    """Whether a sample id or a subject id is among those that the receipt is about."""
    return (
        sample_hash(hash_key, identifier) in receipt["samples"]
        or subject_hash(hash_key, identifier) in receipt["subjects"]
    )
