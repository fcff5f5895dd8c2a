"""Files as a scan reads them: in pieces, with gzip unpacked and links followed."""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

# How much is searched at once: matches are kept in memory, and an id of one letter has many.
PIECE = 1 << 18
# The most that a gzip file may unpack to: a crafted one can be a thousand times its size.
MAX_UNPACKED = 1 << 30
_GZIP = b"\x1f\x8b\x08"
_PACKED_PIECE = 1 << 14
_OTHERS = {
    b"PK\x03\x04": "zip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"7z\xbc\xaf\x27\x1c": "7z",
}
_BREAKS = b"\n \t\0"


@dataclass(frozen=True)
class Entry:
    """An entry of a folder.

    Attributes:
        path: of the entry.
        target: what it points to; empty if it is not a link.
        readable: whether it is a file, or a link to one, that was not listed before.
        trouble: why it, or its target, was not searched; empty if it was.
    """

    path: Path
    target: str = ""
    readable: bool = False
    trouble: str = ""


class UnpackError(Exception):
    """Raised when a gzip file is damaged, or unpacks to more than MAX_UNPACKED."""


def entries(folder: Path) -> Iterator[Entry]:
    """Everything below a folder, with links followed, each file and folder once.

    A link that another user created is reported and not followed: otherwise anyone who may write into a folder could
    make a scan read the whole disk.
    """
    seen: set[tuple[int, int]] = set()
    waiting = [folder]
    while waiting:
        parent = waiting.pop()
        try:
            status = parent.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            paths = sorted(parent.iterdir())
        except FileNotFoundError:
            continue
        except OSError as error:
            yield Entry(parent, trouble=f"cannot be read: {error}")
            continue
        for path in paths:
            entry, below = _entry(path, seen)
            yield entry
            waiting += below


def _entry(path: Path, seen: set[tuple[int, int]]) -> tuple[Entry, list[Path]]:
    """The entry, and the folder to list if it is one."""
    target = ""
    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            target = str(path.readlink())
            if status.st_uid not in (0, os.getuid()):
                return Entry(path, target, trouble="is a link that another user created: not followed"), []
            status = path.stat()
    except FileNotFoundError:
        return Entry(path, target), []
    except OSError as error:
        return Entry(path, target, trouble=f"cannot be read: {error}"), []
    if stat.S_ISDIR(status.st_mode):
        return Entry(path, target), [path]
    key = (status.st_dev, status.st_ino)
    readable = stat.S_ISREG(status.st_mode) and key not in seen
    if readable:
        seen.add(key)
    return Entry(path, target, readable), []


def packed_otherwise(start: bytes) -> str | None:
    """How a file that begins like this is compressed, if it is and cannot be unpacked here."""
    return next((name for mark, name in _OTHERS.items() if start.startswith(mark)), None)


def pieces(file: BinaryIO, reach: int) -> Iterator[bytes]:
    """A file, then what it unpacks to if it is gzip, in pieces that overlap by at least ``reach``.

    Raises:
        UnpackError: when it is damaged or unpacks to more than MAX_UNPACKED; everything before has been yielded.
        OSError: when it cannot be read.
    """
    yield from _overlapping(_read(file), reach)
    file.seek(0)
    if file.read(len(_GZIP)) == _GZIP:
        file.seek(0)
        yield from _overlapping(_unpacked(file), reach)


def _read(file: BinaryIO) -> Iterator[bytes]:
    # A log may grow while it is read: what is added now is left to the next scan.
    remaining = file.seek(0, os.SEEK_END)
    file.seek(0)
    while remaining > 0 and (part := file.read(min(PIECE, remaining))):
        remaining -= len(part)
        yield part


def _unpacked(file: BinaryIO) -> Iterator[bytes]:
    total, rest = 0, b""
    unpack = zlib.decompressobj(wbits=31)
    while part := rest or file.read(_PACKED_PIECE):
        try:
            data = unpack.decompress(part, PIECE)
        except zlib.error as error:
            raise UnpackError(f"is damaged gzip: {error}") from error
        total += len(data)
        yield data
        if total > MAX_UNPACKED:
            raise UnpackError(f"is gzip of more than {MAX_UNPACKED >> 20} MiB: searched only up to there")
        rest = unpack.unconsumed_tail
        if unpack.eof:
            # Rotated logs are often several gzip streams in a row; anything else behind them was searched as it is.
            rest = unpack.unused_data
            following = rest + file.read(len(_GZIP)) if len(rest) < len(_GZIP) else rest
            if not following.startswith(_GZIP):
                return
            rest, unpack = following, zlib.decompressobj(wbits=31)
    yield unpack.flush()


def _overlapping(parts: Iterator[bytes], reach: int) -> Iterator[bytes]:
    """Cut at the ends of words, so that the beginning of a longer id does not look like a shorter one."""
    pending = b""
    for part in parts:
        pending += part
        if len(pending) < PIECE + 2 * reach:
            continue
        cut = _break_before(pending, len(pending))
        yield pending[:cut]
        pending = pending[_break_before(pending, max(cut - reach, 0)) :]
    if pending:
        yield pending


def _break_before(data: bytes, position: int) -> int:
    """The position after the last break of words that is close before this one; this one if there is none."""
    last = max(data.rfind(bytes([each]), max(position - PIECE // 4, 0), position) for each in _BREAKS)
    return last + 1 if last >= 0 else position
