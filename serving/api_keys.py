"""API keys: who may call the service. A file in the key folder holds their digests, never the keys.

``api-keys.json`` has mode 0600 and is replaced as a whole. Revoked keys stay in it: a service that once had a key
keeps requiring one.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import secrets
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field, TypeAdapter, ValidationError

from lmeraser.clock import utc_now
from lmeraser.errors import ConfigError, KeysError
from lmeraser.loopback import is_loopback
from lmeraser.state.keys import read_private

Scope = Literal["predict", "delete", "approve", "hold", "read", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
FILE = "api-keys.json"
# Lets secret scanners find a key that was published by mistake.
_PREFIX = "lmeraser_"
_SECRET_BYTES = 32


@dataclass(frozen=True)
class ApiKey:
    """What is stored of a key.

    Attributes:
        id: identifies the key, for revoking it.
        name: whose it is, for people, and for the log where it requests, approves or holds.
        scopes: what the key allows; "admin" allows everything.
        created_at, revoked_at: ISO 8601, UTC; ``revoked_at`` is None while the key is valid.
        sha256: digest of the key, which has 256 random bits and cannot be guessed, so no slow hash is needed.
    """

    id: str
    name: str
    scopes: tuple[Scope, ...]
    created_at: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] = field(repr=False)
    revoked_at: str | None = None

    @property
    def caller(self) -> str:
        """The name of whoever calls with it."""
        return self.name.strip() or f"key {self.id}"

    def allows(self, scope: Scope) -> bool:
        """Whether the key is valid and has this scope."""
        return self.revoked_at is None and (scope in self.scopes or "admin" in self.scopes)


_FILE_CONTENT = TypeAdapter(tuple[ApiKey, ...])


def create_api_key(folder: Path, scopes: Iterable[str], name: str = "") -> tuple[ApiKey, str]:
    """Create a key; returns its stored entry, and the key itself, which is not stored.

    Raises:
        ConfigError: when no scope is given, or an unknown one, or a key that approves has no name.
        KeysError: when the folder or its file cannot be used.
    """
    requested = set(scopes)
    if not requested or requested - set(SCOPES):
        raise ConfigError(f"the scopes are {sorted(requested)}; allowed are one or more of {', '.join(SCOPES)}")
    if "approve" in requested and not name.strip():
        raise ConfigError("a key with the scope approve needs a name: nobody may approve what the same name requested")
    secret = _PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
    ordered = tuple(scope for scope in SCOPES if scope in requested)
    key = ApiKey(secrets.token_hex(4), name, ordered, utc_now(), _digest(secret))
    with _locked(folder):
        _write(folder, (*read_api_keys(folder), key))
    return key, secret


def revoke_api_key(folder: Path, key_id: str) -> ApiKey:
    """Revoke a key; takes effect at once in every service that reads this folder.

    Raises:
        ConfigError: when no key has this id.
        KeysError: when the folder or its file cannot be used.
    """
    with _locked(folder):
        keys = {key.id: key for key in read_api_keys(folder)}
        if key_id not in keys:
            raise ConfigError(f"{folder} has no API key {key_id!r}; `lmeraser api-keys list` lists them")
        if keys[key_id].revoked_at is None:
            keys[key_id] = replace(keys[key_id], revoked_at=utc_now())
            _write(folder, tuple(keys.values()))
    return keys[key_id]


def read_api_keys(folder: Path) -> tuple[ApiKey, ...]:
    """All keys including revoked ones, oldest first; empty when there is no file.

    Raises:
        KeysError: when the file is not a file of API keys, cannot be read, or is readable by other users.
    """
    path = folder / FILE
    if _version(path) is None:
        return ()
    try:
        return _FILE_CONTENT.validate_json(read_private(path))
    except ValidationError as error:
        raise KeysError(f"{path} is not a file of API keys") from error


def check_listening(folder: Path, host: str) -> None:
    """Refuse to listen on an address that other machines can reach, unless callers need a key.

    Raises:
        ConfigError: when ``host`` is not a loopback address and the folder has no API key.
        KeysError: when the file of API keys cannot be used.
    """
    if not read_api_keys(folder) and not is_loopback(host):
        raise ConfigError(
            f"listening on {host} needs API keys, and {folder} has none: "
            "`lmeraser api-keys create --scope predict` creates one; without keys, allowed are 127.0.0.1, ::1 and "
            "localhost"
        )


class ApiKeys:
    """The keys of a folder, read again when their file changes. Safe to use from several threads."""

    def __init__(self, folder: Path, expected: bool = False) -> None:
        """Does not read the file yet.

        Args:
            folder: the key folder.
            expected: whether there must be keys; always true once the file was seen.
        """
        self._folder = folder
        self._expected = expected
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._keys: tuple[ApiKey, ...] = ()

    def current(self) -> tuple[ApiKey, ...]:
        """All keys including revoked ones; empty only if there never was a file.

        Raises:
            KeysError: when the file cannot be used, or is missing or empty although there were keys.
        """
        with self._lock:
            # Taken before the read, so that the next call sees a change in between.
            version = _version(self._folder / FILE)
            self._expected = self._expected or version is not None
            if version != self._seen:
                self._keys = read_api_keys(self._folder)
                self._seen = version
            if self._expected and not self._keys:
                # A file that was moved or lost must not open the service.
                raise KeysError(
                    f"the API keys in {self._folder / FILE} are missing: put the file back, or create new keys"
                )
            return self._keys

    def find(self, secret: str) -> ApiKey | None:
        """The valid key with this secret; None if there is none.

        Raises:
            KeysError: when the file cannot be used.
        """
        digest = _digest(secret)
        # Compares all keys, so that the duration does not reveal which one matched.
        matches = [key for key in self.current() if hmac.compare_digest(key.sha256, digest)]
        return next((key for key in matches if key.revoked_at is None), None)


def _version(path: Path) -> tuple[int, int, int] | None:
    """Changes whenever the file is replaced; None when there is no file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        # Failing to read the file is not the same as having no keys.
        raise KeysError(f"cannot read {path}: {error.strerror}") from error
    return status.st_ino, status.st_mtime_ns, status.st_size


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Serialise changes, so that none is lost, and raise errors of the disk as KeysError."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise KeysError(f"cannot change the API keys in {folder}: {error.strerror}") from error


def _write(folder: Path, keys: tuple[ApiKey, ...]) -> None:
    partial = folder / f"{FILE}.partial"
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(_FILE_CONTENT.dump_json(keys, indent=2) + b"\n")
        file.flush()
        os.fsync(descriptor)
    partial.replace(folder / FILE)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
