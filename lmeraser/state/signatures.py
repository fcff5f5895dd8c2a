"""Ed25519 signatures (RFC 8032) over the canonical JSON of an object, in its field ``signature``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from lmeraser.hashing import canonical_json


def sign(body: Mapping[str, Any], key: Ed25519PrivateKey) -> dict[str, Any]:
    """The object with its signature; an older signature in it is replaced."""
    unsigned = _unsigned(body)
    return {**unsigned, "signature": key.sign(canonical_json(unsigned)).hex()}


def is_signed(body: Mapping[str, Any], key: Ed25519PublicKey) -> bool:
    """Whether the object's signature is valid under this key."""
    try:
        key.verify(bytes.fromhex(str(body.get("signature", ""))), canonical_json(_unsigned(body)))
    except (InvalidSignature, ValueError, RecursionError):
        return False
    return True


def _unsigned(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != "signature"}
