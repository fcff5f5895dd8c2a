"""Rows from a manifest: a CSV, TSV or JSON Lines file that names image files, with their labels and subjects."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from lmeraser.config import ColumnsConfig, ImagesConfig
from lmeraser.data.label_index import LabelIndex
from lmeraser.data.parts import PART_ROWS, PartedSource, Piece
from lmeraser.data.sample import Part, Sample, SourceReport
from lmeraser.data.table_columns import Columns
from lmeraser.data.table_rows import TableRows
from lmeraser.errors import DataError
from lmeraser.store.filesystem import filesystem

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_JSON_LINES = (".jsonl", ".ndjson")
_BOM = b"\xef\xbb\xbf"
MANIFEST_SUFFIXES = (*_SEPARATORS, *_JSON_LINES)
# Images are read this many at a time: a bucket takes tens of milliseconds for each.
_READERS = 16


@dataclass(frozen=True)
class _Records:
    """Records that follow each other: their first byte, their bytes, the line of the first one, how many there are."""

    offset: int
    size: int
    line: int
    count: int


class ManifestSource(PartedSource[_Records]):
    """A file with one record for each row.

    The column ``image`` holds a path, absolute or relative to the manifest's folder. The sample id is that path as it
    is written, unless there is a column ``sample_id``. A label that is a number in a CSV file is the name that it
    spells, if there is one, or else a number. The size of a part is that of its records: the images' sizes are not
    known before they are read.
    """

    def __init__(self, path: str, columns: ColumnsConfig, images: ImagesConfig, report: SourceReport) -> None:
        """Read the first record of a manifest at a local path, or at ``s3://bucket/path?endpoint=URL``.

        Args:
            path: the manifest.
            columns: what the columns are called.
            images: bounds the bytes of an image.
            report: counts what is left out.

        Raises:
            DataError: when there is no such file, it is of another kind, or it lacks a column.
        """
        super().__init__(report)
        self._system, self._file = filesystem(path)
        self._folder = PurePosixPath(self._file).parent
        self._max_bytes = images.max_bytes
        self._rows = TableRows(None, report, labels_are_text=True)
        suffix = PurePosixPath(self._file).suffix.lower()
        if suffix not in MANIFEST_SUFFIXES:
            allowed = ", ".join(MANIFEST_SUFFIXES)
            raise DataError(f"{path} is no manifest: its name must end in one of {allowed}")
        self._separator = _SEPARATORS.get(suffix, "")
        first = next(self._records(), None)
        if first is None:
            raise DataError(f"{path} holds no records")
        parsed = self._parsed(first)[0]
        # The first record of a CSV file names the columns.
        self._names = [str(name) for name in parsed]
        self._columns = Columns.among(self._names, self._file, columns)

    def label_values(self, most: int) -> list[str | int | None]:
        """See Source.label_values."""
        distinct: dict[str | int | None, None] = {}
        for piece in self._own_pieces:
            for values, _ in self._values(piece.content):
                distinct[values["label"]] = None
                if len(distinct) == most:
                    return list(distinct)
        return list(distinct)

    def _pieces(self) -> Sequence[Piece[_Records]]:
        pieces: list[Piece[_Records]] = []
        pending: list[_Records] = []
        records = self._records()
        if self._separator:
            next(records)
        for record in (*records, None):
            if pending and (record is None or len(pending) == PART_ROWS):
                whole = _joined(pending)
                place = f"{self._file}, bytes {whole.offset} to {whole.offset + whole.size}"
                pieces.append(Piece(Part(len(pieces), place, whole.count, whole.size), whole))
                pending = []
            if record is not None:
                pending.append(record)
        return pieces

    def _ids(self, content: _Records, labels: tuple[str, ...]) -> Iterator[str]:
        label_index = LabelIndex(labels)
        return (self._sample(values, where, label_index, b"").sample_id for values, where in self._values(content))

    def _read(self, content: _Records, labels: tuple[str, ...]) -> Iterator[Sample]:
        label_index = LabelIndex(labels)
        rows = list(self._values(content))
        with ThreadPoolExecutor(_READERS, thread_name_prefix="images") as readers:
            for start in range(0, len(rows), _READERS):
                chunk = rows[start : start + _READERS]
                images = readers.map(lambda row: self._image(row[0]["image"], row[1]), chunk)
                for (values, where), image in zip(chunk, images, strict=True):
                    yield self._sample(values, where, label_index, image)

    def _sample(self, values: dict[str, Any], where: str, label_index: LabelIndex, image: bytes) -> Sample:
        return self._rows.sample({**values, "image": image}, where, label_index, default_id=values["image"])

    def _values(self, records: _Records) -> Iterator[tuple[dict[str, Any], str]]:
        """What each record says of a row, by what it is, and where the record is."""
        for number, fields in enumerate(filter(None, self._parsed(records))):
            where = f"record {number} from line {records.line} of {self._file}"
            if not isinstance(fields, dict):
                if len(fields) != len(self._names):
                    raise DataError(f"{where} has {len(fields)} fields; the first line has {len(self._names)}")
                fields = dict(zip(self._names, fields, strict=True))
            values = {holds: fields.get(name) for holds, name in self._columns.by_content().items()}
            for holds, value in values.items():
                if not isinstance(value, str | int | None) or isinstance(value, bool):
                    raise DataError(f"{where} has the {holds} {value!r}; text or a whole number is needed")
            if not isinstance(values["image"], str) or not values["image"]:
                raise DataError(f"{where} names no image; the path of a file is needed")
            yield values, where

    def _parsed(self, records: _Records) -> list[Any]:
        """The fields of each record: a list of text, or an object."""
        try:
            with self._system.open_input_file(self._file) as opened:
                text = opened.read_at(records.size, records.offset).decode("utf-8-sig")
            if self._separator:
                return list(csv.reader(io.StringIO(text, newline=""), delimiter=self._separator, strict=True))
            parsed = [json.loads(line) for line in text.split("\n") if line.strip()]
        except (OSError, ValueError, csv.Error) as error:
            raise DataError(f"cannot read {self._file} from line {records.line}: {error}") from error
        if not all(isinstance(fields, dict) for fields in parsed):
            raise DataError(f"{self._file} holds something other than objects, from line {records.line}")
        return parsed

    def _records(self) -> Iterator[_Records]:
        """Every record by itself, with its line; blank lines are none."""
        offset, line, begun = 0, 0, 0
        pending = b""
        try:
            with self._system.open_input_stream(self._file, buffer_size=1 << 20) as stream:
                for each in io.BufferedReader(stream):
                    line += 1
                    begun = begun or line
                    pending += each
                    # A line ends a record unless it is within quotes, of which an odd number has come then.
                    if self._separator and pending.count(b'"') % 2:
                        continue
                    if pending.removeprefix(_BOM).strip():
                        yield _Records(offset, len(pending), begun, 1)
                    offset, begun, pending = offset + len(pending), 0, b""
        except OSError as error:
            raise DataError(f"cannot read {self._file}: {error}") from error
        if pending.strip():
            yield _Records(offset, len(pending), begun, 1)

    def _image(self, path: str, where: str) -> bytes:
        file = str(self._folder / path)
        try:
            with self._system.open_input_stream(file) as opened:
                # One byte above the limit is enough for the image to be refused.
                content: bytes = opened.read(self._max_bytes + 1)
                return content
        except OSError as error:
            raise DataError(f"{where} names the image {path}, which cannot be read: {error}") from error


def _joined(records: Sequence[_Records]) -> _Records:
    """Records that follow each other, perhaps with blank lines between them, as one."""
    first, last = records[0], records[-1]
    return _Records(first.offset, last.offset + last.size - first.offset, first.line, len(records))
