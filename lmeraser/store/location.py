"""Locations: a local path, or a bucket as one string, ``s3://bucket/prefix?endpoint=https://host``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from lmeraser.errors import ConfigError, StoreError

SCHEME = "s3://"
_FILE = "file:"
_ENDPOINT = "?endpoint="
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")


@dataclass(frozen=True)
class S3Location:
    """A prefix of a bucket.

    Attributes:
        bucket: the bucket's name.
        prefix: beginning of the keys, without slashes at either end; empty for the whole bucket.
        endpoint: URL of a provider other than AWS; empty for the one that boto3 finds.
    """

    bucket: str
    prefix: str
    endpoint: str = ""

    @property
    def uri(self) -> str:
        """The string that :meth:`parse` reads; equal locations have equal strings."""
        path = f"{SCHEME}{self.bucket}/{self.prefix}".removesuffix("/")
        return f"{path}{_ENDPOINT}{self.endpoint}" if self.endpoint else path

    @staticmethod
    def parse(uri: str) -> S3Location:
        """Parse ``s3://bucket/prefix?endpoint=URL``; prefix and endpoint are optional, and nothing is unescaped.

        Raises:
            StoreError: when a part is not valid.
        """
        path, _, endpoint = uri.removeprefix(SCHEME).partition(_ENDPOINT)
        bucket, _, prefix = path.partition("/")
        prefix = prefix.strip("/")
        if not _BUCKET.fullmatch(bucket):
            raise StoreError(
                f"{uri!r} names the bucket {bucket!r}; 3 to 63 letters, digits, '-', '.' or '_' are allowed"
            )
        if prefix and not {"", ".", ".."}.isdisjoint(prefix.split("/")):
            raise StoreError(f"{uri!r} has the prefix {prefix!r}; no part of it may be empty, '.' or '..'")
        if "?" in prefix or not prefix.isprintable():
            raise StoreError(f"{uri!r} has the prefix {prefix!r}; '?' and control characters are not allowed in it")
        return S3Location(bucket, prefix, _checked_endpoint(endpoint))


def local_path(text: str | Path) -> Path:
    """The absolute form of a path that a user gives; links are not resolved.

    ``~`` at the beginning is the home folder, and ``file:///path`` is accepted too.

    Raises:
        ConfigError: when the home folder is unknown, or the URI names another machine.
    """
    path = str(text)
    if path.startswith(_FILE):
        rest = path.removeprefix(_FILE)
        path = rest.removeprefix("//").removeprefix("localhost") if rest.startswith("//") else rest
        if not path.startswith(("/", "~/")):
            raise ConfigError(f"{str(text)!r} is not a path of this machine; allowed is file:///path")
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError as error:
        raise ConfigError(
            f"cannot determine which folder '~' in {str(text)!r} is: set HOME, or name the folder from the root"
        ) from error


def resolved_path(text: str | Path) -> Path:
    """The canonical form of a path: like :func:`local_path`, but without ``..`` and links.

    Raises:
        ConfigError: like :func:`local_path`, and when links form a loop.
    """
    path = local_path(text)
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:
        raise ConfigError(f"cannot follow the links in {path}: {error}") from error


def with_endpoint(uri: str, endpoint: str) -> str:
    """The URI with an endpoint.

    Raises:
        StoreError: when it is not an S3 URI, or has another endpoint.
    """
    if not uri.startswith(SCHEME):
        raise StoreError(f"the S3 endpoint {endpoint!r} can only be used with s3://bucket/prefix, not with {uri!r}")
    location = S3Location.parse(uri)
    if location.endpoint not in ("", endpoint.rstrip("/")):
        raise StoreError(f"{uri!r} has another endpoint than {endpoint!r}")
    return S3Location(location.bucket, location.prefix, _checked_endpoint(endpoint)).uri


def _checked_endpoint(endpoint: str) -> str:
    try:
        parts = urlsplit(endpoint)
        good = parts.scheme in ("http", "https") and parts.hostname and not (parts.query or parts.fragment)
        named = parts.username is not None
    except ValueError:
        good = named = False
    if named:
        # Not quoted in the message: it contains a secret.
        raise StoreError(
            "the S3 endpoint contains credentials; they may only come from the environment, a profile or a role"
        )
    if endpoint and not good:
        raise StoreError(f"the S3 endpoint is {endpoint!r}; allowed is http://host:port or https://host:port")
    return endpoint.rstrip("/")
