"""The files below a folder that may be data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from lmeraser.data.sample import SourceReport
from lmeraser.errors import DataError

# Files and folders that operating systems create next to the data.
_NO_DATA = frozenset({"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini"})
HIDDEN = "hidden"


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is not data: .ipynb_checkpoints, ._a.png, __MACOSX, Thumbs.db."""
    return name.startswith(".") or name.lower() in _NO_DATA


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """The entries of a folder. Raises DataError when it cannot be read."""
    try:
        with os.scandir(folder) as scanned:
            return list(scanned)
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {error.strerror}") from error


def visible_files(folder: Path, report: SourceReport) -> Iterator[Path]:
    """All files below the folder in any order, following links; what is left out is counted.

    Raises:
        DataError: when a folder cannot be read, or a name is not text.
    """
    return _files(folder, report, ())


def checked_name(name: str, folder: Path) -> str:
    """The name of a file or folder, which becomes part of sample ids.

    Raises:
        DataError: when it is not text.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DataError(
            f"the name {os.fsencode(name)!r} in {os.fsencode(folder).decode(errors='replace')} is not UTF-8, but "
            "sample ids are made from file names: rename it (convmv renames whole folders)"
        ) from None
    return name


def reason_of(suffix: str) -> str:
    """The reason for leaving out files with a suffix that is not read, as the report names it."""
    plain = suffix == suffix.strip() and suffix.isprintable()
    return (suffix if plain else repr(suffix)) or "without a suffix"


def _files(folder: Path, report: SourceReport, above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    """The files; ``above`` are the folders on the path to this one, by device and inode."""
    own = folder.stat()
    above = (*above, (own.st_dev, own.st_ino))
    for entry in entries(folder):
        path = folder / checked_name(entry.name, folder)
        if is_hidden(entry.name):
            report.left_out[HIDDEN] += 1
        elif entry.is_dir():
            status = entry.stat()
            if (status.st_dev, status.st_ino) in above:
                report.left_out["circular link"] += 1
            else:
                yield from _files(path, report, above)
        elif entry.is_file():
            yield path
        else:
            report.left_out["broken link" if entry.is_symlink() else "not a regular file"] += 1
