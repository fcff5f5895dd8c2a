"""Where objects lie: a small interface over a folder or a bucket.

A name is a relative path such as ``rows/3f2a…/9c41….parquet``. Data objects are written once under
names that are never used again; only the log needs :meth:`Store.put_if_absent`.

Every method that removes takes a fence. It lists first what is to go, then calls the fence, and then removes what was
listed and nothing else: whoever takes the store over first writes to the log, where the fence looks, and only then puts
objects. So a process that was replaced, or that sleeps through its replacement, removes nothing of its successor's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from lmeraser.errors import StoreError
from lmeraser.extras import needs_extra
from lmeraser.store.fence import Fence, unfenced
from lmeraser.store.local import LocalStore
from lmeraser.store.location import SCHEME, S3Location, local_path

__all__ = ["Fence", "LocalStore", "Store", "open_store", "unfenced"]


class Store(Protocol):
    """Objects by name. Every method raises StoreError when the medium fails."""

    uri: str

    def get(self, name: str) -> bytes:
        """The object's bytes. Raises ObjectMissingError when there is none."""

    def put(self, name: str, data: bytes) -> None:
        """Write the object whole and durably; a reader sees all of it or none of it."""

    def put_if_absent(self, name: str, data: bytes) -> None:
        """Like put, but raises LostRaceError when the object is there already."""

    def exists(self, name: str) -> bool:
        """Whether the object is there."""

    def names(self, prefix: str = "") -> list[str]:
        """The names that start with the prefix, sorted."""

    def purge(self, name: str, fence: Fence) -> None:
        """Remove the object for good, in every version; nothing happens when it is not there."""

    def purge_below(self, prefix: str, keep: Callable[[str], bool], fence: Fence) -> None:
        """Purge what starts with the prefix, but for the names that are to be kept, and list to check.

        Args:
            prefix: what the names start with.
            keep: whether a name stays; asked after the names were listed.
            fence: called once where there is anything to remove.

        Raises:
            StoreError: when something that should be gone is still listed.
        """

    def purge_partial(self, keep: Callable[[str], bool], fence: Fence) -> None:
        """Remove what unfinished writes left behind, but for the names that are to be kept."""

    def kept(self) -> Iterator[tuple[str, bytes | None]]:
        """All that the medium keeps for this store, objects or not, with where it lies; None for what it does not show.

        Older versions and unfinished writes are no objects, and hold bytes all the same.
        """

    def check(self) -> None:
        """Refuse a place where this process may not do all that a store does, or where what is purged can stay.

        Raises:
            StoreError: with the reason.
        """


def open_store(uri: str) -> Store:
    """The store at a local path (``file://`` may stand before it), or at ``s3://bucket/prefix?endpoint=URL``.

    ``~`` is the home folder. One folder has one ``uri``, however it is spelled. Nothing is written yet.

    Raises:
        ConfigError: when the home folder is not known, or links lead to each other.
        StoreError: when the URI names another scheme, or cannot be read.
        MissingExtraError: for a bucket without the extra ``s3``.
    """
    if not uri:
        raise StoreError("no store was given: pass --store URI or set `store:` in the configuration")
    scheme, separator, _ = uri.partition("://")
    if not separator or scheme == "file":
        return LocalStore(local_path(uri))
    if uri.startswith(SCHEME):
        # boto3 takes long to import, and a folder has no need of it.
        with needs_extra("s3"):
            from lmeraser.store.s3 import S3Store

        return S3Store(S3Location.parse(uri))
    raise StoreError(f"store {uri!r} has the scheme {scheme!r}; allowed is a local path, file:// or s3://")
