"""Object storage: a small interface over a folder or a bucket.

A name is a relative path such as ``rows/3f2a…/9c41….parquet``. Data objects are written once under
names that are never used again; only the log needs :meth:`Store.put_if_absent`.

Every method that removes takes a fence (decision 41). It lists what it will remove, then calls the fence, and then
removes what was listed and nothing else. A process that takes over the store first writes to the log, which the fence
reads, and only then writes objects. So a process that was replaced, even one that was suspended in the meantime,
removes nothing that belongs to its successor.
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
    """Objects by name. Every method raises StoreError when the disk or the bucket fails."""

    uri: str

    def get(self, name: str) -> bytes:
        """The object's bytes. Raises ObjectMissingError when there is none."""

    def put(self, name: str, data: bytes) -> None:
        """Write the object whole and durably; a reader sees all of it or none of it."""

    def put_if_absent(self, name: str, data: bytes) -> None:
        """Like put, but raises LostRaceError when the object exists already."""

    def exists(self, name: str) -> bool:
        """Whether the object exists."""

    def names(self, prefix: str = "") -> list[str]:
        """The names that start with the prefix, sorted."""

    def purge(self, name: str, fence: Fence) -> None:
        """Remove the object permanently, in every version; does nothing if it does not exist."""

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
        """Remove the remains of unfinished writes, except those of names that ``keep`` accepts."""

    def kept(self) -> Iterator[tuple[str, bytes | None]]:
        """Everything that the disk or bucket keeps for this store, with its location; None if its bytes cannot be read.

        This includes older versions and unfinished writes, which are not objects but contain bytes.
        """

    def below(self, folder: str) -> Store:
        """The store of what is in a folder of this one, whose name ends with a slash."""

    def check(self) -> None:
        """Check that this process may do everything that a store needs, and that nothing survives a purge.

        Raises:
            StoreError: when that is not so; the message says why.
        """


def open_store(uri: str) -> Store:
    """The store at a local path, which may begin with ``file://``, or at ``s3://bucket/prefix?endpoint=URL``.

    ``~`` is the home folder. A folder has one ``uri``, however its path is spelled. Nothing is written yet.

    Raises:
        ConfigError: when the home folder is unknown, or symbolic links form a loop.
        StoreError: when the URI names another scheme, or cannot be read.
        MissingExtraError: for a bucket without the extra ``s3``.
    """
    if not uri:
        raise StoreError("no store was given: pass --store URI or set `store:` in the configuration")
    scheme, separator, _ = uri.partition("://")
    if not separator or scheme == "file":
        return LocalStore(local_path(uri))
    if uri.startswith(SCHEME):
        # boto3 takes long to import, and a folder does not need it.
        with needs_extra("s3"):
            from lmeraser.store.s3 import S3Store

        return S3Store(S3Location.parse(uri))
    raise StoreError(f"store {uri!r} has the scheme {scheme!r}; allowed is a local path, file:// or s3://")
