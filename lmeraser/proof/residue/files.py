"""Files as a scan reads them: piece by piece, unpacked where they are of gzip, links followed."""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

# How much is searched at once: matches are held in memory, and an id of one letter has many.
PIECE = 1 << 18
# What a gzip file may unpack to: its makers decide, and it can be a thousand times its size.
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
    """One thing that lies in a folder.

    Attributes:
        path: where it lies.
        target: what it points to; empty where it is no link.
        readable: whether it is a file, or a link to one, that was not given yet.
        trouble: why it, or what it points to, was not looked at.
    """

    path: Path
    target: str = ""
    readable: bool = False
    trouble: str = ""


class UnpackError(Exception):
    """Raised when a gzip file is damaged, or unpacks to more than is read."""


def entries(folder: Path) -> Iterator[Entry]:
    """All that lies below a folder, links followed, each file and folder once.

    A link that another user made is named and not followed: whoever may write into a folder could have a scan read
    the whole disk.
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
    """The entry, and the folder that it is, if so."""
    target = ""
    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            target = str(path.readlink())
            if status.st_uid not in (0, os.getuid()):
                return Entry(path, target, trouble="is a link that another user made: not followed"), []
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
    """How the file that starts so is compressed, where it is and is not unpacked here."""
    return next((name for mark, name in _OTHERS.items() if start.startswith(mark)), None)


def pieces(file: BinaryIO, reach: int) -> Iterator[bytes]:
    """A file as it lies, then what it unpacks to if it is of gzip, in pieces that overlap by at least ``reach``.

    Raises:
        UnpackError: when it is damaged or unpacks to more than MAX_UNPACKED; all up to there was given.
        OSError: when it cannot be read.
    """
    yield from _overlapping(_read(file), reach)
    file.seek(0)
    if file.read(len(_GZIP)) == _GZIP:
        file.seek(0)
        yield from _overlapping(_unpacked(file), reach)


def _read(file: BinaryIO) -> Iterator[bytes]:
    # A log grows while it is read: what comes after is the next scan's.
    left = file.seek(0, os.SEEK_END)
    file.seek(0)
    while left > 0 and (part := file.read(min(PIECE, left))):
        left -= len(part)
        yield part


def _unpacked(file: BinaryIO) -> Iterator[bytes]:
    total, rest = 0, b""
    unpack = zlib.decompressobj(wbits=31)
    while part := rest or file.read(_PACKED_PIECE):
        try:
            given = unpack.decompress(part, PIECE)
        except zlib.error as error:
            raise UnpackError(f"is damaged gzip: {error}") from error
        total += len(given)
        yield given
        if total > MAX_UNPACKED:
            raise UnpackError(f"is gzip of more than {MAX_UNPACKED >> 20} MiB: read up to there only")
        rest = unpack.unconsumed_tail
        if unpack.eof:
            # Rotated logs are often several one after the other; anything else behind them was read as it lies.
            rest = unpack.unused_data
            following = rest + file.read(len(_GZIP)) if len(rest) < len(_GZIP) else rest
            if not following.startswith(_GZIP):
                return
            rest, unpack = following, zlib.decompressobj(wbits=31)
    yield unpack.flush()


def _overlapping(parts: Iterator[bytes], reach: int) -> Iterator[bytes]:
    """Cut where words end, so that the beginning of a longer id does not look like a shorter one."""
    held = b""
    for part in parts:
        held += part
        if len(held) < PIECE + 2 * reach:
            continue
        cut = _break_before(held, len(held))
        yield held[:cut]
        held = held[_break_before(held, max(cut - reach, 0)) :]
    if held:
        yield held


def _break_before(data: bytes, place: int) -> int:
    found = max(data.rfind(bytes([each]), max(place - PIECE // 4, 0), place) for each in _BREAKS)
    return found + 1 if found >= 0 else place
