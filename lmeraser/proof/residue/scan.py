"""The scan: what is searched, and what counts as a finding.

It searches for ids and, if images are given, for their bytes, pixels and features, as they are and in the forms of
:mod:`lmeraser.proof.residue.forms`. Objects that the newest commit does not name are findings too. Keyed hashes may
remain. The scan fails closed: what it cannot read is a finding.
"""

from __future__ import annotations

import io
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from lmeraser.errors import NotReadyError, ObjectCorruptError, ObjectMissingError
from lmeraser.hashing import HashKey, sample_hash, subject_hash
from lmeraser.ids import comparable
from lmeraser.proof.residue.files import Entry, UnpackError, entries, packed_otherwise, pieces
from lmeraser.proof.residue.needles import SHORTEST_ANYWHERE, Needles
from lmeraser.state.commit import Commit, newest_commit
from lmeraser.state.layout import data_folders, generation_folder
from lmeraser.state.log import Log
from lmeraser.state.manifest import Manifest, load_manifest
from lmeraser.state.record_bodies import RequestBody
from lmeraser.state.rows import RowTable
from lmeraser.store import Store

NOT_LOOKED_FOR = (
    "what is encrypted, or compressed by anything but gzip",
    "what is split into parts, or written in another form",
    "images that were saved again with loss, scaled or rotated, and areas of plain colour",
    f"ids shorter than {SHORTEST_ANYWHERE} bytes inside words, base64 or hex digits",
    "ids without letters, outside the store's row files",
    "memory, swap space, and what a disk keeps of removed files",
)


@dataclass(frozen=True)
class Finding:
    """Something that should not be there: the file, and what it is. Ids are given by their position in the list."""

    file: str
    what: str


@dataclass(frozen=True)
class Residue:
    """The result of a scan.

    Attributes:
        findings: what should not be there.
        doubtful: places where an id without letters occurs, which may be an unrelated number.
        never_known: positions in the list of ids of those that the store neither has nor was ever asked to delete.
        misspelt: those of them that differ from an id in the store only in blanks, case or Unicode form.
        not_unpacked: how many files are compressed by anything but gzip, by kind.
        files: how many files, and versions of objects, were read.
        ids: how many ids were searched for.
        images: how many images were searched for.
    """

    findings: tuple[Finding, ...]
    doubtful: tuple[Finding, ...]
    never_known: tuple[int, ...]
    misspelt: tuple[int, ...]
    not_unpacked: dict[str, int]
    files: int
    ids: int
    images: int

    @property
    def clean(self) -> bool:
        """Whether the store knew all ids, and there are no findings."""
        return not self.findings and not self.never_known


def scan(
    store: Store,
    hash_key: HashKey,
    folders: Iterable[Path],
    ids: Sequence[str],
    images: Sequence[bytes] = (),
    tables: Iterable[tuple[str, bytes]] = (),
    unread: Iterable[Finding] = (),
) -> Residue:
    """Search for remains of erased rows.

    Args:
        store: must have a commit; its objects are checked against that.
        hash_key: of the store; the log contains ids as keyed hashes.
        folders: folders to search besides everything that the store keeps, such as Ray's temporary folder.
        ids: sample and subject ids that should be gone.
        images: encoded images that should be gone.
        tables: other data to search that is not in files, with their names.
        unread: findings in advance: what should have been searched and cannot be read.

    Raises:
        StoreFormatError: when there is no store, or another format version wrote it.
        NotReadyError: when nothing was ever committed.
        LogError: when the log's chain is broken.
        KeysError: when the hash key is not the store's.
        UndecodableImageError: when one of the images cannot be decoded.
    """
    manifest = load_manifest(store)
    records = Log(store).advance()
    commit = newest_commit(records)
    if commit is None:
        raise NotReadyError("the store holds no commit: ingest rows first")
    manifest.check_hash_key(commit.fixed_leaves, hash_key)
    remaining = _Remaining(store, commit)
    traces = _traces(store, manifest, images, remaining) if images else {}
    known = remaining.ids()
    sought = set(map(comparable, ids))
    search = _Search(Needles(ids, traces, (name for name in known if comparable(name) not in sought)), sought)
    search.findings += [*unread, *_unnamed(store, commit), *remaining.findings(sought)]
    for name, data in store.kept():
        search.at_object(name, data)
    for folder in folders:
        for entry in entries(folder):
            search.at_entry(folder, entry)
    for name, data in tables:
        search.at_file(name, io.BytesIO(data), own=False)
    requests = (RequestBody.all_from(record) for record in records if record.kind == "request")
    named = {each for request in chain.from_iterable(requests) for each in request.hashes()}
    present = set(map(comparable, known))
    unknown = [
        position
        for position, name in enumerate(ids, start=1)
        if comparable(name) not in present
        and named.isdisjoint((sample_hash(hash_key, name), subject_hash(hash_key, name)))
    ]
    alike = set(map(_loosely, present)) if unknown else set()
    return Residue(
        findings=tuple(dict.fromkeys(search.findings)),
        doubtful=tuple(dict.fromkeys(search.doubtful)),
        never_known=tuple(unknown),
        misspelt=tuple(position for position in unknown if _loosely(ids[position - 1]) in alike),
        not_unpacked=dict(search.not_unpacked),
        files=search.files,
        ids=len(ids),
        images=len(images),
    )


def _loosely(name: str) -> str:
    """The id without blanks, case and differences of Unicode form."""
    return "".join(unicodedata.normalize("NFKC", name).casefold().split())


def _traces(store: Store, manifest: Manifest, images: Sequence[bytes], remaining: _Remaining) -> dict[bytes, str]:
    # Only here: a scan for ids needs no torch.
    from lmeraser.proof.residue.appearance import appearances
    from lmeraser.state.pipeline_loading import load_pipeline

    return appearances(load_pipeline(store, manifest), images, remaining.tables())


class _Remaining:
    """The rows of a commit."""

    def __init__(self, store: Store, commit: Commit) -> None:
        self._store = store
        self._commit = commit

    def tables(self) -> Iterator[RowTable]:
        """The row tables that can be read."""
        return (table for _, table in self._read() if isinstance(table, RowTable))

    def ids(self) -> set[str]:
        """Ids of rows and of their subjects: an erased id may be a part of one of them."""
        return {name for table in self.tables() for name in filter(None, (*table.sample_ids, *table.subject_ids))}

    def findings(self, sought: set[str]) -> Iterator[Finding]:
        """Rows that should be gone, and row files that cannot be read."""
        for name, table in self._read():
            if not isinstance(table, RowTable):
                yield Finding(name, f"cannot be read: {table}")
            elif remaining := sought & set(map(comparable, filter(None, (*table.sample_ids, *table.subject_ids)))):
                yield Finding(name, f"holds {len(remaining)} of the ids")

    def _read(self) -> Iterator[tuple[str, RowTable | Exception]]:
        for name in (segment.rows_object for entry in self._commit.clusters for segment in entry.segments):
            try:
                yield name, RowTable.from_parquet(self._store.get(name), name)
            except (ObjectCorruptError, ObjectMissingError) as error:
                yield name, error


class _Search:
    """Searches one file or object after another, and collects the findings."""

    def __init__(self, needles: Needles, sought: set[str]) -> None:
        self.findings: list[Finding] = []
        self.doubtful: list[Finding] = []
        self.not_unpacked: Counter[str] = Counter()
        self.files = 0
        self._needles = needles
        self._sought = sought

    def at_object(self, name: str, data: bytes | None) -> None:
        """Search something that the store keeps, an object or not; ``data`` is None if it cannot be read."""
        if data is None:
            self.files += 1
            self.findings.append(Finding(name, "cannot be read"))
            return
        self.at_file(name, io.BytesIO(data), own=True)
        # Parquet may encode an id in any form, and only there can an id of digits be told from a number.
        if remaining := self._sought & set(map(comparable, _ids_in(data))):
            self.findings.append(Finding(name, f"holds {len(remaining)} of the ids"))

    def at_entry(self, folder: Path, entry: Entry) -> None:
        """Search a file or folder below a folder: its name, its link target, and its content."""
        name = str(entry.path)
        inner = entry.path.relative_to(folder)
        # What is in the names of the folders above was reported when they were searched.
        above = self._needles.in_path(str(inner.parent))
        matches = zip(self._needles.in_path(str(inner)), self._needles.in_path(entry.target), strict=True)
        for (in_name, in_target), reported, findings in zip(
            matches, above, (self.findings, self.doubtful), strict=True
        ):
            needles = sorted((in_name | in_target) - reported)
            findings += (Finding(name, f"is called or points to {needle}") for needle in needles)
        if entry.trouble:
            self.findings.append(Finding(name, entry.trouble))
        if not entry.readable:
            return
        try:
            with entry.path.open("rb") as file:
                self.at_file(name, file, own=False)
        except FileNotFoundError:
            return
        except OSError as error:
            self.findings.append(Finding(name, f"cannot be read: {error}"))

    def at_file(self, name: str, file: BinaryIO, own: bool) -> None:
        """Search the bytes of a file. In the store's ``own`` files, numbers are not taken for ids."""
        self.files += 1
        if (how := packed_otherwise(file.read(16))) is not None:
            self.not_unpacked[how] += 1
        try:
            for piece in pieces(file, self._needles.reach):
                sure, doubtful = self._needles.in_data(piece, plain_numbers=not own)
                self.findings += (Finding(name, f"holds {what}") for what in sorted(sure))
                self.doubtful += (Finding(name, f"may hold {what}") for what in sorted(doubtful))
        except UnpackError as error:
            self.findings.append(Finding(name, str(error)))


def _ids_in(data: bytes) -> Iterator[str]:
    """The ids of a row file, current or not; none if the bytes are not such a file."""
    if not data.startswith(b"PAR1"):
        return
    try:
        table = pq.read_table(pa.BufferReader(data), columns=["sample_id", "subject_id"])
        yield from (name for column in table.columns for name in column.to_pylist() if isinstance(name, str))
    except (pa.ArrowException, OSError):
        return


def _unnamed(store: Store, commit: Commit) -> Iterator[Finding]:
    """Objects that the commit does not name."""
    named = commit.objects()
    for folder in data_folders(generation_folder(commit.generation)):
        for name in store.names(folder):
            if name not in named:
                yield Finding(name, "is an object that the newest commit does not name")
