"""Rows from WebDataset shards: tar files in which the members of a sample follow each other and share a key.

The key of ``dir/0001.seg.png`` is ``dir/0001``, and the rest, ``seg.png``, is what the member is. A sample has one
image, a label in ``.cls`` (a number or a name) or in ``.json``, and optionally ids in ``.json``.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import IO, Any, Literal, cast

import pyarrow as pa
from pyarrow import fs

from lmeraser.config import ColumnsConfig, ImagesConfig
from lmeraser.data.image_format import suffixes_of
from lmeraser.data.label_index import LabelIndex
from lmeraser.data.listing import HIDDEN
from lmeraser.data.parts import PartedSource, Piece, Unit, pieces_of
from lmeraser.data.sample import Sample, SourceReport
from lmeraser.data.shard_files import shard_files
from lmeraser.data.table_rows import TableRows
from lmeraser.errors import DataError
from lmeraser.store.filesystem import filesystem

_CLASS = "cls"
_JSON = "json"
# A sample of a shard in a bucket, for the estimate of how many there are.
_USUAL_BYTES = 1 << 16
_BUFFER_BYTES = 1 << 17


@dataclass(frozen=True)
class _Samples:
    """Samples of a shard.

    Attributes:
        file: the shard.
        offset: where the first member of the first sample begins.
        keys: how many samples; None for all that follow.
    """

    file: str
    offset: int
    keys: int | None


@dataclass(frozen=True, repr=False)
class _Member:
    """A file in a shard: its sample's key, and what it is."""

    key: str
    name: str
    content: bytes


class WebDatasetSource(PartedSource[_Samples]):
    """One tar file, or all ``*.tar`` files below a folder in the order of their paths.

    The sample id is the sample's key, unless ``.json`` has one. A part is some samples of a shard; of a shard in a
    bucket, whose headers cannot be read one by one in reasonable time, it is the whole shard.
    """

    def __init__(
        self,
        path: str,
        split: str,
        columns: ColumnsConfig,
        images: ImagesConfig,
        report: SourceReport,
    ) -> None:
        """Find the shards at a local path, or at ``s3://bucket/path?endpoint=URL``.

        Args:
            path: file or folder.
            split: read the files of this split; all files when empty, unless their names contain several splits.
            columns: what the members, or the keys of ``.json``, are called.
            images: members with the suffixes of its formats are images.
            report: counts what is left out.

        Raises:
            DataError: when there is no such file or split, or the split must be named.
        """
        super().__init__(report)
        self._system, location = filesystem(path)
        self._columns = columns
        self._suffixes = {suffix.removeprefix(".") for suffix in suffixes_of(images)}
        self._max_bytes = images.max_bytes
        self._rows = TableRows(None, report, labels_are_text=True)
        self._files = shard_files(self._system, location, path, ".tar", split, report)

    def label_values(self, most: int) -> list[str | int | None]:
        """See Source.label_values."""
        distinct: dict[str | int | None, None] = {}
        for piece in self._own_pieces:
            for values, where in self._values(piece.content):
                distinct[self._label(values, where)] = None
                if len(distinct) == most:
                    return list(distinct)
        return list(distinct)

    def _pieces(self) -> Sequence[Piece[_Samples]]:
        units = ((file, unit) for file in self._files for unit in self._units(file))
        return [Piece(piece.part, _joined(piece.content)) for piece in pieces_of(units)]

    def _units(self, file: str) -> Iterator[Unit[_Samples]]:
        if not isinstance(self._system, fs.LocalFileSystem):
            size = self._system.get_file_info(file).size
            yield Unit(_Samples(file, 0, None), max(1, size // _USUAL_BYTES), size)
            return
        key, begun, end = "", 0, 0
        with self._opened(file, 0, "r:") as shard:
            for member in shard:
                # Headers that were read would stay in memory.
                cast("Any", shard).members.clear()
                own = _key_of(member)
                if own is None:
                    self._report.left_out[HIDDEN] += member.isfile()
                    continue
                if key and own != key:
                    yield Unit(_Samples(file, begun, 1), 1, member.offset - begun)
                if own != key:
                    key, begun = own, member.offset
                end = member.offset_data + member.size
        if key:
            yield Unit(_Samples(file, begun, 1), 1, end - begun)

    def _read(self, content: _Samples, labels: tuple[str, ...]) -> Iterator[Sample]:
        label_index = LabelIndex(labels)
        for values, where in self._values(content):
            row = {
                "image": self._image(values, where),
                "label": self._label(values, where),
                "sample_id": self._id(values, "sample_id", self._columns.sample_id, where),
                "subject_id": self._id(values, "subject_id", self._columns.subject_id, where),
            }
            yield self._rows.sample(row, where, label_index, default_id=values["__key__"])

    def _values(self, samples: _Samples) -> Iterator[tuple[dict[str, Any], str]]:
        """The members of each sample by what they are, with its key, and where it is."""
        members = self._members(samples)
        for number, (key, group) in enumerate(groupby(members, key=lambda member: member.key)):
            if number == samples.keys:
                return
            where = f"sample {key!r} of {samples.file}"
            values: dict[str, Any] = {member.name: member.content for member in group}
            if _JSON in values:
                values[_JSON] = _parsed(values[_JSON], where)
            yield {**values, "__key__": key}, where

    def _members(self, samples: _Samples) -> Iterator[_Member]:
        with self._opened(samples.file, samples.offset, "r|") as shard:
            for member in shard:
                if (key := _key_of(member)) is not None:
                    opened = cast("IO[bytes]", shard.extractfile(member))
                    # One byte above the limit is enough for the image to be refused.
                    content = opened.read(self._max_bytes + 1)
                    yield _Member(key, member.name.removeprefix(f"{key}.").lower(), content)

    def _image(self, values: dict[str, Any], where: str) -> bytes | None:
        if self._columns.image != ColumnsConfig().image:
            return cast("bytes | None", values.get(self._columns.image))
        names = [name for name in values if name.rpartition(".")[2] in self._suffixes]
        if len(names) > 1:
            raise DataError(f"{where} has several images, {', '.join(names)}: name one under `columns:`, as `image:`")
        return values[names[0]] if names else None

    def _label(self, values: dict[str, Any], where: str) -> str | int:
        name = self._columns.label
        member = values.get(_CLASS if name == ColumnsConfig().label else name)
        if isinstance(member, bytes):
            try:
                return member.decode().strip()
            except UnicodeDecodeError:
                raise DataError(f"{where} has a label that is not UTF-8") from None
        label = values.get(_JSON, {}).get(name)
        if not isinstance(label, str | int) or isinstance(label, bool):
            raise DataError(
                f"{where} has no label: a number or a name is needed, in the member .cls or as {name!r} in .json; it "
                f"has {_described(values)} (see `columns:`)"
            )
        return label

    def _id(self, values: dict[str, Any], holds: str, named: str, where: str) -> str | int | None:
        value = values.get(_JSON, {}).get(named or holds)
        if value is None and not named:
            return None
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise DataError(
                f"{where} has no {holds}: text or a whole number is needed as {named or holds!r} in .json; it has "
                f"{_described(values)} (see `columns:`)"
            )
        return value

    @contextmanager
    def _opened(self, file: str, offset: int, mode: Literal["r:", "r|"]) -> Iterator[tarfile.TarFile]:
        try:
            with (
                self._stream(file) as stream,
                tarfile.open(fileobj=_from(stream, offset), mode=mode, bufsize=_BUFFER_BYTES) as shard,
            ):
                yield shard
        except (OSError, tarfile.TarError, pa.ArrowException) as error:
            raise DataError(f"cannot read {file}: {error}") from error

    def _stream(self, file: str) -> Any:
        if isinstance(self._system, fs.LocalFileSystem):
            return Path(file).open("rb", buffering=0)
        return self._system.open_input_stream(file)


def _from(stream: Any, offset: int) -> Any:
    """The stream from this byte on."""
    if offset:
        stream.seek(offset)
    return stream


def _joined(samples: Sequence[_Samples]) -> _Samples:
    """Samples that follow each other, as one."""
    first = samples[0]
    return first if first.keys is None else _Samples(first.file, first.offset, len(samples))


def _key_of(member: tarfile.TarInfo) -> str | None:
    """The key of a member's sample; None for what is not part of one."""
    folder, _, name = member.name.rpartition("/")
    stem = name.partition(".")[0]
    if not member.isfile() or not stem or name.startswith("__"):
        return None
    return f"{folder}/{stem}" if folder else stem


def _parsed(content: bytes, where: str) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError as error:
        raise DataError(f"{where} has a .json that cannot be parsed: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{where} has a .json that is no object")
    return value


def _described(values: dict[str, Any]) -> str:
    """The members of a sample, and the keys of its .json."""
    members = ", ".join(f".{name}" for name in values if name != "__key__")
    return f"{members}, with {', '.join(values[_JSON])} in .json" if values.get(_JSON) else members
