"""The hash key and the signing key: where they are, who may read them, what is refused."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from lmeraser.errors import KeysError
from lmeraser.hashing import HashKey
from lmeraser.state.keys import (
    HASH_KEY_VARIABLE,
    KEYS_VARIABLE,
    default_folder,
    init_keys,
    load_hash_key,
    load_signing_key,
    parse_public_pem,
    public_pem,
)

SECRET = bytes(range(100, 132))


@pytest.fixture(autouse=True)
def _no_keys_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(HASH_KEY_VARIABLE, raising=False)
    monkeypatch.delenv(KEYS_VARIABLE, raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    init_keys(tmp_path / "deep" / "keys")
    return tmp_path / "deep" / "keys"


def write_private(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    path.chmod(0o600)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_private_keys_are_readable_by_their_owner_alone(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        init_keys(tmp_path / "keys")
    finally:
        os.umask(before)
    assert mode(tmp_path / "keys") == 0o700
    assert mode(tmp_path / "keys" / "hash.key") == 0o600
    assert mode(tmp_path / "keys" / "signing-key.pem") == 0o600


def test_a_hash_key_is_64_hex_digits(folder: Path) -> None:
    assert re.fullmatch(r"[0-9a-f]{64}", (folder / "hash.key").read_text().strip())


def test_two_key_folders_have_different_keys(tmp_path: Path) -> None:
    init_keys(tmp_path / "a")
    init_keys(tmp_path / "b")
    assert load_hash_key(tmp_path / "a") != load_hash_key(tmp_path / "b")
    assert (tmp_path / "a" / "signing-key.pub.pem").read_bytes() != (
        tmp_path / "b" / "signing-key.pub.pem"
    ).read_bytes()


@pytest.mark.parametrize("left", [("hash.key", "signing-key.pem"), ("hash.key",), ("signing-key.pem",)])
def test_keys_are_never_overwritten(folder: Path, left: tuple[str, ...]) -> None:
    for name in {"hash.key", "signing-key.pem"} - set(left):
        (folder / name).unlink()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(KeysError, match="holds keys already"):
        init_keys(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_hash_key_is_read_from_its_file(folder: Path) -> None:
    assert load_hash_key(folder).secret == bytes.fromhex((folder / "hash.key").read_text())


def test_a_hash_key_in_the_environment_overrides_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HASH_KEY_VARIABLE, SECRET.hex())
    assert load_hash_key(folder) == HashKey(SECRET)


def test_a_hash_key_in_the_environment_needs_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HASH_KEY_VARIABLE, f" {SECRET.hex().upper()}\n")
    assert load_hash_key(tmp_path) == HashKey(SECRET)


MALFORMED = ["00", SECRET.hex()[:-1], SECRET.hex()[:-2], SECRET.hex() + "00", "x" * 64, "é" * 64, " "]


@pytest.mark.parametrize("text", [*MALFORMED, ""])
def test_a_malformed_hash_key_in_the_file_is_refused(folder: Path, text: str) -> None:
    write_private(folder / "hash.key", text.encode())
    with pytest.raises(KeysError, match="64 hex digits") as caught:
        load_hash_key(folder)
    assert SECRET.hex()[:16] not in str(caught.value)


@pytest.mark.parametrize("text", MALFORMED)
def test_a_malformed_hash_key_in_the_environment_is_refused(
    folder: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HASH_KEY_VARIABLE, text)
    with pytest.raises(KeysError, match="64 hex digits") as caught:
        load_hash_key(folder)
    assert SECRET.hex()[:16] not in str(caught.value)


def test_missing_keys_are_named_with_the_command_that_creates_them(tmp_path: Path) -> None:
    with pytest.raises(KeysError, match=r"hash\.key.*lmeraser keys init"):
        load_hash_key(tmp_path)
    with pytest.raises(KeysError, match=r"signing-key\.pem.*lmeraser keys init"):
        load_signing_key(tmp_path)


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o644, 0o620, 0o602, 0o610, 0o601, 0o666])
def test_a_private_key_that_others_may_read_or_write_is_refused(folder: Path, bits: int) -> None:
    for name, load in (("hash.key", load_hash_key), ("signing-key.pem", load_signing_key)):
        (folder / name).chmod(bits)
        with pytest.raises(KeysError, match=f"{name} may be read by others .mode {bits:04o}"):
            load(folder)


@pytest.mark.parametrize("bits", [0o600, 0o400])
def test_a_private_key_that_only_its_owner_may_read_is_taken(folder: Path, bits: int) -> None:
    for name in ("hash.key", "signing-key.pem"):
        (folder / name).chmod(bits)
    assert len(load_hash_key(folder).secret) == 32
    load_signing_key(folder)


def test_the_signing_key_fits_the_public_key_next_to_it(folder: Path) -> None:
    public = parse_public_pem((folder / "signing-key.pub.pem").read_bytes())
    public.verify(load_signing_key(folder).sign(b"receipt"), b"receipt")


def test_a_public_key_survives_pem(folder: Path) -> None:
    public = load_signing_key(folder).public_key()
    assert parse_public_pem(public_pem(public)) == public


@pytest.mark.parametrize("what", ["garbage", "empty", "another curve", "encrypted", "public"])
def test_anything_but_an_ed25519_private_key_is_refused(folder: Path, what: str) -> None:
    ours = load_signing_key(folder)
    data = {
        "garbage": b"not a key",
        "empty": b"",
        "another curve": generate_private_key(SECP256R1()).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        ),
        "encrypted": ours.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word")),
        "public": public_pem(ours.public_key()),
    }[what]
    write_private(folder / "signing-key.pem", data)
    with pytest.raises(KeysError, match=r"signing-key\.pem is not an"):
        load_signing_key(folder)


@pytest.mark.parametrize("what", ["garbage", "empty", "another curve", "private"])
def test_anything_but_an_ed25519_public_key_is_refused(folder: Path, what: str) -> None:
    pem = {
        "garbage": b"not a key",
        "empty": b"",
        "another curve": generate_private_key(SECP256R1())
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "private": (folder / "signing-key.pem").read_bytes(),
    }[what]
    with pytest.raises(KeysError, match="public key is not"):
        parse_public_pem(pem)


def test_secrets_are_never_in_a_repr(folder: Path) -> None:
    key = HashKey(SECRET)
    for shown in (repr(key), str(key), f"{key}", repr({"key": key})):
        assert SECRET.hex() not in shown
        assert repr(SECRET)[2:-1] not in shown
    assert not re.search("PRIVATE KEY", repr(load_signing_key(folder)))


def test_a_keyed_hash_depends_on_every_part_and_on_where_parts_end() -> None:
    key = HashKey(SECRET)
    hashes = [key.of(*parts) for parts in (("ab",), ("a", "b"), ("b", "a"), ("a",), ("a", ""), (), (1,), ("1",))]
    assert len(set(hashes)) == len(hashes)
    assert HashKey(bytes(32)).of("a") != key.of("a")
    assert HashKey(SECRET).of("a", 1) == key.of("a", 1)


def test_the_default_folder_is_the_one_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".lmeraser" / "keys"
    monkeypatch.setenv(KEYS_VARIABLE, str(tmp_path / "elsewhere"))
    assert default_folder() == tmp_path / "elsewhere"
