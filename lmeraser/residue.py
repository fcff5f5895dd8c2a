"""Is anything of erased rows left? A scan of the store and of other folders, byte by byte.

It looks for ids, and, where images are given, for their bytes and their features on the grid; and for objects that no
commit names. Keyed hashes are allowed to stay. The scan fails closed: what it cannot read counts as a finding.

Legend: H head features.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lmeraser.commit import DATA_FOLDERS
from lmeraser.data import Sample
from lmeraser.errors import ObjectCorruptError, ObjectMissingError
from lmeraser.ids import comparable
from lmeraser.log import Log
from lmeraser.manifest import load_manifest
from lmeraser.public import load_method
from lmeraser.rows import RowTable
from lmeraser.store import Store
from lmeraser.verify import newest_commit

_CHUNK = 1 << 22
_WORD = rb"[\w./@:+-]"
# A shorter id is met by chance in binary files: it counts in row files, and in text as a word of its own.
_SHORTEST_ANYWHERE = 6


@dataclass(frozen=True)
class Finding:
    """One thing that should not be there: in which file, and what. An id is named by its place in the list of ids."""

    file: str
    what: str


@dataclass(frozen=True)
class Residue:
    """What a scan found.

    Attributes:
        clean: whether nothing was found.
        findings: what was.
        files: how many files, and versions of objects, were read.
        ids: how many ids were looked for.
        images: how many images were looked for.
    """

    clean: bool
    findings: tuple[Finding, ...]
    files: int
    ids: int
    images: int


def scan(store: Store, folders: Iterable[Path], ids: Sequence[str], images: Sequence[bytes] = ()) -> Residue:
    """Look for what is left of erased rows.

    Args:
        store: must hold a commit; its objects are checked against it.
        folders: files to read besides all that the store keeps, such as Ray's temporary folder.
        ids: sample and subject ids that should be gone.
        images: encoded images that should be gone.

    Raises:
        NotReadyError: when nothing was ever committed.
        LogError: when the log's chain is broken.
    """
    needles = _Needles(ids, _blobs(store, images), _known_ids(store) - set(ids))
    findings = list(_in_objects(store, ids))
    files = 0
    for name, data in store.kept():
        files += 1
        findings += (Finding(name, what) for what in (["cannot be read"] if data is None else needles.found(data)))
    for folder in folders:
        for path, error in _files(folder):
            if error is not None:
                findings.append(Finding(str(path), f"cannot be read: {error}"))
                continue
            files += 1
            findings += (Finding(str(path), what) for what in _in_file(path, needles))
    return Residue(not findings, tuple(dict.fromkeys(findings)), files, len(ids), len(images))


class _Needles:
    """What is looked for."""

    def __init__(self, ids: Sequence[str], blobs: Mapping[bytes, str], known: set[str]) -> None:
        self._ids = {name.encode(): place for place, name in enumerate(ids, start=1)}
        self._blobs = blobs
        self._known = known
        # Longer ids first, so that one that begins with another is found whole.
        ordered = sorted(self._ids, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(map(re.escape, ordered))) if ordered else None
        self.longest = max(map(len, [b"", *self._ids, *blobs]))

    def found(self, data: bytes) -> Iterator[str]:
        """What of it is in the data."""
        for blob, what in self._blobs.items():
            if blob in data:
                yield f"holds {what}"
        text = b"\0" not in data
        for match in self._pattern.finditer(data) if self._pattern is not None else ():
            word = _word_around(data, match)
            if word.decode(errors="replace") in self._known:
                continue
            if len(match[0]) >= _SHORTEST_ANYWHERE or (text and word == match[0]):
                yield f"holds id {self._ids[match[0]]}"


def _word_around(data: bytes, match: re.Match[bytes]) -> bytes:
    start, end = match.span()
    while start > 0 and re.match(_WORD, data[start - 1 : start]):
        start -= 1
    while end < len(data) and re.match(_WORD, data[end : end + 1]):
        end += 1
    return data[start:end]


def _known_ids(store: Store) -> set[str]:
    """Ids of the rows that remain: an erased id may be a part of one of them."""
    known: set[str] = set()
    for entry in newest_commit(Log(store)).clusters:
        try:
            table = RowTable.from_parquet(store.get(entry.rows_object), entry.rows_object)
        except (ObjectCorruptError, ObjectMissingError):
            continue
        known.update(table.sample_ids, filter(None, table.subject_ids))
    return known


def _blobs(store: Store, images: Sequence[bytes]) -> dict[bytes, str]:
    """The images and their un-prompted features: int16 as in memory and int32 as Parquet keeps them."""
    if not images:
        return {}
    method = load_method(store, load_manifest(store))
    rows = method.rows(Sample(f"{place:08d}", None, 0, image) for place, image in enumerate(images))
    found = {image: f"image {place}" for place, image in enumerate(images, start=1)}
    for place, features_H in enumerate(rows.features_NH, start=1):
        found |= {features_H.astype(kind).tobytes(): f"features of image {place}" for kind in ("<i2", "<i4")}
    return found


def _in_objects(store: Store, ids: Sequence[str]) -> Iterator[Finding]:
    """Objects that no commit names, and rows that are still in a row file, whatever its encoding."""
    wanted = set(map(comparable, ids))
    commit = newest_commit(Log(store))
    named = commit.objects()
    for folder in DATA_FOLDERS:
        for name in store.names(folder):
            if name not in named:
                yield Finding(name, "is an object that the newest commit does not name")
    for name in store.names("requests/"):
        yield Finding(name, "is a request that is not erased yet")
    for entry in commit.clusters:
        try:
            table = RowTable.from_parquet(store.get(entry.rows_object), entry.rows_object)
        except (ObjectCorruptError, ObjectMissingError) as error:
            yield Finding(entry.rows_object, f"cannot be read: {error}")
            continue
        left = wanted & set(map(comparable, filter(None, (*table.sample_ids, *table.subject_ids))))
        if left:
            yield Finding(entry.rows_object, f"holds {len(left)} of the ids")


def _files(folder: Path) -> Iterator[tuple[Path, OSError | None]]:
    """All regular files below a folder; a folder that cannot be listed comes with its error."""
    errors: list[OSError] = []
    for parent, _, names in os.walk(folder, onerror=errors.append):
        for name in names:
            path = Path(parent) / name
            if path.is_file() and not path.is_symlink():
                yield path, None
    yield from ((Path(error.filename or folder), error) for error in errors)


def _in_file(path: Path, needles: _Needles) -> Iterator[str]:
    """Read in chunks that overlap by as much as the longest thing looked for."""
    tail = b""
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                data = tail + chunk
                yield from needles.found(data)
                tail = data[-(needles.longest + 256) :]
    except FileNotFoundError:
        return
    except OSError as error:
        yield f"cannot be read: {error}"
