"""Rows from Parquet files in the layout of Hugging Face datasets.

Columns, which may have other names: ``image`` (bytes, or a struct with ``bytes``), ``label`` (an integer, with or
without ClassLabel names in the schema's metadata, or a name), and optionally ``sample_id`` and ``subject_id`` (text or
integers; null and the empty text mean that there is no id).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lmeraser.config import ColumnsConfig
from lmeraser.data.content_names import ContentNames
from lmeraser.data.label_index import LabelIndex
from lmeraser.data.parquet_files import parquet_files
from lmeraser.data.sample import Sample, ShardedSource, SourceReport
from lmeraser.data.table_columns import Columns, image_leaf, label_names
from lmeraser.errors import DataError
from lmeraser.hashing import HashKey
from lmeraser.ids import comparable, fault_of_id
from lmeraser.store.filesystem import filesystem

# Few, because an image may be large.
_IMAGES_PER_BATCH = 16
_VALUES_PER_BATCH = 4096
_BUFFER_BYTES = 1 << 22
_ALL = ("sample_id", "subject_id", "label", "image")


@dataclass(frozen=True)
class _File:
    """What a file's footer says: its schema, its columns, and the rows of each row group."""

    path: str
    schema: pa.Schema
    columns: Columns
    group_rows: tuple[int, ...]


@dataclass(frozen=True, repr=False)
class _Row:
    """The values of one row by what they are, where it is for messages, and the file's label names."""

    number: int
    where: str
    class_names: tuple[str, ...]
    values: dict[str, Any]


class ParquetSource(ShardedSource):
    """One Parquet file, or all ``*.parquet`` files below a folder in the order of their paths.

    A row without ``sample_id`` is named by its content. A shard reads only row groups that hold rows of it, but see
    :meth:`samples`.
    """

    def __init__(
        self, path: str, split: str, columns: ColumnsConfig, name_key: HashKey | None, report: SourceReport
    ) -> None:
        """Read the footers of the files at a local path, or at ``s3://bucket/path?endpoint=URL``.

        Args:
            path: file or folder.
            split: read the files of this split; all files when empty, unless their names contain several splits.
            columns: what the columns are called.
            name_key: hash key that rows without ``sample_id`` are named with.
            report: counts what is left out.

        Raises:
            DataError: when there is no such file or split, the split must be named, or a column is missing or has a
                type that is not supported.
        """
        self._system, location = filesystem(path)
        self._columns = columns
        self._name_key = name_key
        self._report = report
        self._files = [self._footer(file) for file in parquet_files(self._system, location, path, split, report)]
        self._total = sum(sum(file.group_rows) for file in self._files)
        self.labels = tuple(map(comparable, _label_names(self._files[0])))

    def count(self) -> int:
        """See Source.count."""
        return len(self._shard.rows(self._total))

    def sample_ids(self, labels: tuple[str, ...]) -> Iterator[str]:
        """See Source.sample_ids."""
        own = self._shard.rows(self._total)
        if not self._all_have_ids(own.stop):
            return (sample.sample_id for sample in self.samples(labels))
        return (str(_given_id(row)) for row in self._rows(own.start, own.stop, ("sample_id",)))

    def samples(self, labels: tuple[str, ...]) -> Iterator[Sample]:
        """See Source.samples.

        Where a row before the shard has no id, the rows before it are read as well: the number in the name of a
        repeated row depends on how many equal rows there are in the whole source (ContentNames).
        """
        label_index = LabelIndex(labels)
        names = ContentNames(self._name_key)
        own = self._shard.rows(self._total)
        self._report.unnamed = 0
        first = own.start if self._all_have_ids(own.start) else 0
        for row in self._rows(first, own.stop, _ALL):
            sample_id = _given_id(row)
            subject_id = _id(row.values.get("subject_id"), row.where)
            described = row.where if sample_id is None else f"sample {sample_id!r}"
            label = _label(label_index, row.class_names, row.values["label"], described)
            image = _encoded(row.values["image"])
            unnamed = sample_id is None
            if sample_id is None:
                sample_id = names.name(image, labels[label], subject_id)
            if row.number in own:
                self._report.unnamed += unnamed
                yield Sample(sample_id, subject_id, label, image)

    def distinct_labels(self, most: int) -> list[str | int | None]:
        """The first ``most`` distinct values of the column ``label``."""
        distinct: dict[str | int | None, None] = {}
        for row in self._rows(0, self._total, ("label",)):
            distinct[row.values["label"]] = None
            if len(distinct) == most:
                break
        return list(distinct)

    def _all_have_ids(self, stop: int) -> bool:
        """Whether every row before this one has a sample id."""
        if stop > 0 and any(file.columns.sample_id is None for file in self._files):
            return False
        return all(_given_id(row) is not None for row in self._rows(0, stop, ("sample_id",)))

    def _rows(self, start: int, stop: int, names: tuple[str, ...]) -> Iterator[_Row]:
        """The rows from ``start`` up to ``stop``, counted over all files, with these values as far as there are any."""
        first = 0
        for file in self._files:
            rows = sum(file.group_rows)
            if start < first + rows and first < stop:
                yield from self._rows_of_file(file, first, range(start, stop), names)
            first += rows

    def _rows_of_file(self, file: _File, first: int, chosen: range, names: tuple[str, ...]) -> Iterator[_Row]:
        """The chosen rows of a file whose own first row has the number ``first``."""
        columns = {value: name for value, name in file.columns.by_content().items() if value in names}
        distinct = list(dict.fromkeys(columns.values()))
        class_names = _label_names(file)
        batch_rows = _IMAGES_PER_BATCH if "image" in columns else _VALUES_PER_BATCH
        # An image that is repeated is held once, as in the file.
        dictionaries = image_leaf(file.schema, file.columns.image)
        options = {"filesystem": self._system, "buffer_size": _BUFFER_BYTES, "read_dictionary": dictionaries}
        number = first
        try:
            # Read in buffered pieces: by default, all images of a row group would be in memory at once.
            with pq.ParquetFile(file.path, **options) as opened:
                # Arrow cannot join the dictionaries of two row groups within a struct, so no batch spans them.
                for group, rows in enumerate(file.group_rows):
                    if number + rows <= chosen.start or number >= chosen.stop:
                        number += rows
                        continue
                    for batch in opened.iter_batches(batch_rows, row_groups=[group], columns=distinct):
                        for row in range(len(batch)):
                            if number in chosen:
                                values = {value: batch.column(name)[row].as_py() for value, name in columns.items()}
                                yield _Row(number, f"row {number - first} of {file.path}", class_names, values)
                            number += 1
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read {file.path}: {error}") from error

    def _footer(self, path: str) -> _File:
        try:
            metadata = pq.read_metadata(path, filesystem=self._system)
            groups = tuple(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
            schema = metadata.schema.to_arrow_schema()
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"cannot read {path}: {error}") from error
        return _File(path, schema, Columns.of(schema, path, self._columns), groups)


def _label_names(file: _File) -> tuple[str, ...]:
    return label_names(file.schema, file.columns.label)


def _given_id(row: _Row) -> str | None:
    return _id(row.values.get("sample_id"), row.where)


def _id(value: Any, where: str) -> str | None:
    """An id as text; None where there is none."""
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            raise DataError(
                f"{where} has the id {value!r}, which is not UTF-8; write it as text, for example in hex"
            ) from None
    if value is None or value == "":
        return None
    if (fault := fault_of_id(str(value))) is not None:
        raise DataError(f"the id in {where} {fault}")
    return str(value)


def _label(label_index: LabelIndex, class_names: tuple[str, ...], label: Any, row: str) -> int:
    if label is None:
        raise DataError(f"{row} has no label; a number or a name is needed")
    if isinstance(label, str):
        return label_index.of_name(label, row)
    if 0 <= label < len(class_names):
        return label_index.of_name(class_names[label], row)
    return label_index.of_number(label, row)


def _encoded(image: Any) -> bytes:
    value = image.get("bytes") if isinstance(image, dict) else image
    # A missing image is reported as undecodable, together with its sample id.
    return value if isinstance(value, bytes) else b""
