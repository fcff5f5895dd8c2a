"""Rows from Parquet files in the layout of Hugging Face datasets.

Columns, which may have other names: ``image`` (bytes, or a struct with ``bytes``), ``label`` (an integer, with or
without ClassLabel names in the schema's metadata, or a name), and optionally ``sample_id`` and ``subject_id`` (text or
integers; null and the empty text mean that there is no id).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lmeraser.config import ColumnsConfig
from lmeraser.data.label_index import LabelIndex
from lmeraser.data.parts import PartedSource, Piece, Unit, pieces_of
from lmeraser.data.sample import Sample, SourceReport
from lmeraser.data.shard_files import shard_files
from lmeraser.data.table_columns import Columns, encoded_image, image_leaf, label_names
from lmeraser.data.table_rows import TableRows, read_id
from lmeraser.errors import DataError
from lmeraser.hashing import HashKey
from lmeraser.ids import comparable
from lmeraser.store.filesystem import filesystem

# Few, because an image may be large.
_IMAGES_PER_BATCH = 16
_VALUES_PER_BATCH = 4096
_BUFFER_BYTES = 1 << 22
_ALL = ("sample_id", "subject_id", "label", "image")


@dataclass(frozen=True)
class _File:
    """What a file's footer says: its schema, its columns, and the rows and bytes of each row group."""

    path: str
    schema: pa.Schema
    columns: Columns
    groups: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class _Group:
    """A row group of a file, and the number of its first row in it."""

    file: _File
    index: int
    first_row: int


class ParquetSource(PartedSource[tuple[_Group, ...]]):
    """One Parquet file, or all ``*.parquet`` files below a folder in the order of their paths.

    A part is one row group or several. A row without ``sample_id`` is named by its content.
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
        super().__init__(report)
        self._system, location = filesystem(path)
        self._columns = columns
        self._rows = TableRows(name_key, report)
        files = shard_files(self._system, location, path, ".parquet", split, report)
        self._files = [self._footer(file) for file in files]
        self.labels = tuple(map(comparable, _label_names(self._files[0])))

    def label_values(self, most: int) -> list[str | int | None]:
        """See Source.label_values."""
        groups = (group for piece in self._own_pieces for group in piece.content)
        values = (values["label"] for group in groups for values, _ in self._values(group, ("label",)))
        distinct: dict[str | int | None, None] = {}
        for value in values:
            distinct[value] = None
            if len(distinct) == most:
                break
        return list(distinct)

    def _pieces(self) -> Sequence[Piece[tuple[_Group, ...]]]:
        units = []
        for file in self._files:
            first_row = 0
            for index, (rows, size) in enumerate(file.groups):
                units.append((file.path, Unit(_Group(file, index, first_row), rows, size)))
                first_row += rows
        return list(pieces_of(units))

    def _ids(self, content: tuple[_Group, ...], labels: tuple[str, ...]) -> Iterator[str]:
        for group in content:
            given = [read_id(values.get("sample_id"), where) for values, where in self._values(group, ("sample_id",))]
            if None in given or group.file.columns.sample_id is None:
                yield from (sample.sample_id for sample in self._read((group,), labels))
            else:
                yield from filter(None, given)

    def _read(self, content: tuple[_Group, ...], labels: tuple[str, ...]) -> Iterator[Sample]:
        label_index = LabelIndex(labels)
        for group in content:
            class_names = _label_names(group.file)
            for values, where in self._values(group, _ALL):
                row = {**values, "image": encoded_image(values["image"])}
                yield self._rows.sample(row, where, label_index, class_names)

    def _values(self, group: _Group, names: tuple[str, ...]) -> Iterator[tuple[dict[str, Any], str]]:
        """These values of each row, as far as there are any, and where the row is."""
        file = group.file
        columns = {value: name for value, name in file.columns.by_content().items() if value in names}
        distinct = list(dict.fromkeys(columns.values()))
        if not distinct:
            return
        batch_rows = _IMAGES_PER_BATCH if "image" in columns else _VALUES_PER_BATCH
        # An image that is repeated is held once, as in the file.
        dictionaries = image_leaf(file.schema, file.columns.image)
        options = {"filesystem": self._system, "buffer_size": _BUFFER_BYTES, "read_dictionary": dictionaries}
        number = group.first_row
        try:
            # Read in buffered pieces: by default, all images of a row group would be in memory at once. Arrow cannot
            # join the dictionaries of two row groups within a struct, so one is read at a time.
            with pq.ParquetFile(file.path, **options) as opened:
                for batch in opened.iter_batches(batch_rows, row_groups=[group.index], columns=distinct):
                    for row in range(len(batch)):
                        values = {value: batch.column(name)[row].as_py() for value, name in columns.items()}
                        yield values, f"row {number} of {file.path}"
                        number += 1
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read {file.path}: {error}") from error

    def _footer(self, path: str) -> _File:
        try:
            metadata = pq.read_metadata(path, filesystem=self._system)
            schema = metadata.schema.to_arrow_schema()
            groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"cannot read {path}: {error}") from error
        columns = Columns.of(schema, path, self._columns)
        return _File(path, schema, columns, tuple((group.num_rows, _bytes_of(group, columns)) for group in groups))


def _label_names(file: _File) -> tuple[str, ...]:
    return label_names(file.schema, file.columns.label)


def _bytes_of(group: pq.RowGroupMetaData, columns: Columns) -> int:
    """Bytes of those columns that are read."""
    read = set(columns.by_content().values())
    chunks = (group.column(index) for index in range(group.num_columns))
    return sum(chunk.total_compressed_size for chunk in chunks if chunk.path_in_schema.split(".")[0] in read)
