"""The hash key and the signing key. They are never in the store.

A key folder holds ``hash.key`` (64 hex digits), ``signing-key.pem`` (Ed25519, PKCS8) and
``signing-key.pub.pem``. The private ones have mode 0600. ``LMERASER_HASH_KEY`` overrides ``hash.key``.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from lmeraser.errors import ConfigError, KeysError
from lmeraser.hashing import HashKey
from lmeraser.store.location import local_path

HASH_KEY_VARIABLE = "LMERASER_HASH_KEY"
KEYS_VARIABLE = "LMERASER_KEYS"


def default_folder() -> Path:
    """The default key folder: ``$LMERASER_KEYS`` if set, otherwise ``~/.lmeraser/keys``.

    Raises:
        ConfigError: when the home folder is unknown.
    """
    try:
        return local_path(os.environ.get(KEYS_VARIABLE) or "~/.lmeraser/keys")
    except ConfigError as error:
        raise ConfigError(
            f"cannot determine where the keys are: set HOME, or {KEYS_VARIABLE}, or pass --keys"
        ) from error


def init_keys(folder: Path) -> None:
    """Create both keys.

    Raises:
        KeysError: when the folder cannot be created, or holds keys already. Keys are never overwritten, because
            receipts and the record of erased ids depend on them.
    """
    if (folder / "hash.key").exists() or (folder / "signing-key.pem").exists():
        raise KeysError(f"{folder} holds keys already; they are not replaced")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise KeysError(f"cannot create the key folder {folder}: {error.strerror}") from error
    signing_key = Ed25519PrivateKey.generate()
    _write_private(folder / "hash.key", secrets.token_hex(32).encode() + b"\n")
    _write_private(
        folder / "signing-key.pem", signing_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    (folder / "signing-key.pub.pem").write_bytes(public_pem(signing_key.public_key()))


def load_hash_key(folder: Path) -> HashKey:
    """The hash key from the environment, otherwise from the folder.

    Raises:
        KeysError: when there is none, or it is not 64 hex digits, or others may read its file.
    """
    text = os.environ.get(HASH_KEY_VARIABLE)
    return _hash_key(text, HASH_KEY_VARIABLE) if text else read_hash_key(folder / "hash.key")


def read_hash_key(file: Path) -> HashKey:
    """The hash key in a file.

    Raises:
        KeysError: when it cannot be read, or is not 64 hex digits, or others may read it.
    """
    return _hash_key(read_private(file).decode("ascii", "replace"), str(file))


def _hash_key(text: str, where: str) -> HashKey:
    try:
        secret = bytes.fromhex(text.strip())
    except ValueError:
        secret = b""
    if len(secret) != 32:
        raise KeysError(f"the hash key in {where} must be 64 hex digits")
    return HashKey(secret)


def load_signing_key(folder: Path) -> Ed25519PrivateKey:
    """The key that signs receipts.

    Raises:
        KeysError: when there is none, or it is not an Ed25519 key, or others may read its file.
    """
    path = folder / "signing-key.pem"
    try:
        key = load_pem_private_key(read_private(path), password=None)
    except (ValueError, TypeError) as error:
        raise KeysError(f"{path} is not an unencrypted PEM private key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeysError(f"{path} is not an Ed25519 key")
    return key


def public_pem(key: Ed25519PublicKey) -> bytes:
    """The public key as PEM."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def parse_public_pem(pem: bytes) -> Ed25519PublicKey:
    """The public key from PEM.

    Raises:
        KeysError: when it is not an Ed25519 public key.
    """
    try:
        key = load_pem_public_key(pem)
    except ValueError as error:
        raise KeysError("the public key is not PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise KeysError("the public key is not an Ed25519 key")
    return key


def read_private(path: Path) -> bytes:
    """The content of a file that holds a secret.

    Raises:
        KeysError: when it cannot be read, or others may read it.
    """
    try:
        mode = path.stat().st_mode
        data = path.read_bytes()
    except OSError as error:
        raise KeysError(f"cannot read {path}: {error.strerror}; `lmeraser keys init` creates keys") from error
    if mode & 0o077:
        raise KeysError(f"{path} may be read by others (mode {mode & 0o777:04o}); allowed is 0600")
    return data


def _write_private(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
