"""Rows from a data set that Hugging Face's ``save_to_disk`` has written: Arrow files, read without its library."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pyarrow as pa
from pyarrow import fs, ipc

from lmeraser.config import ColumnsConfig
from lmeraser.data.label_index import LabelIndex
from lmeraser.data.parts import PartedSource, Piece, Unit, pieces_of
from lmeraser.data.sample import Sample, SourceReport
from lmeraser.data.splits import same_split
from lmeraser.data.table_columns import Columns, encoded_image, label_names
from lmeraser.data.table_rows import TableRows
from lmeraser.errors import DataError
from lmeraser.hashing import HashKey
from lmeraser.ids import comparable
from lmeraser.store.filesystem import filesystem

STATE = "state.json"
_SPLITS = "dataset_dict.json"


@dataclass(frozen=True)
class _Batches:
    """Record batches of a file.

    Attributes:
        file: the file.
        first: how many batches come before.
        first_row: how many rows come before.
        count: how many batches; None for all that follow.
    """

    file: str
    first: int
    first_row: int
    count: int | None


class HuggingFaceSource(PartedSource[tuple[_Batches, ...]]):
    """A folder that ``save_to_disk`` has written, of a ``Dataset`` or, with its splits, of a ``DatasetDict``.

    Columns are those of Parquet (:mod:`lmeraser.data.parquet`). A part is some record batches of a file; of a file in
    a bucket, where batches cannot be skipped, it is the whole file.
    """

    def __init__(
        self, path: str, split: str, columns: ColumnsConfig, name_key: HashKey | None, report: SourceReport
    ) -> None:
        """Read what the folder says of itself, at a local path, or at ``s3://bucket/path?endpoint=URL``.

        Args:
            path: the folder.
            split: the split of a ``DatasetDict`` to read.
            columns: what the columns are called.
            name_key: hash key that rows without ``sample_id`` are named with.
            report: counts what is left out.

        Raises:
            DataError: when it is no such folder, has no such split, the split must be named, or a column is missing or
                has a type that is not supported.
        """
        super().__init__(report)
        self._system, location = filesystem(path)
        self._path = path
        self._rows = TableRows(name_key, report)
        folder = self._folder_of_split(location.rstrip("/"), split)
        state = self._json(f"{folder}/{STATE}")
        if state is None:
            raise DataError(f"{path} holds no data set that `save_to_disk` has written: there is no {STATE} in it")
        if state.get("_indices_data_files"):
            raise DataError(f"{path} holds rows in another order than its files: save it again after flatten_indices()")
        self._files = [f"{folder}/{each['filename']}" for each in state.get("_data_files", [])]
        if not self._files:
            raise DataError(f"{path} names no data files in its {STATE}")
        with self._reader(self._files[0]) as reader:
            schema = reader.schema
        self._columns = Columns.of(schema, self._files[0], columns)
        self._info = self._json(f"{folder}/dataset_info.json") or {}
        self._class_names = label_names(schema, self._columns.label) or self._declared()
        self.labels = tuple(map(comparable, self._class_names))

    def label_values(self, most: int) -> list[str | int | None]:
        """See Source.label_values."""
        distinct: dict[str | int | None, None] = {}
        for piece in self._own_pieces:
            for batches in piece.content:
                for batch, _ in self._batches(batches):
                    distinct.update(dict.fromkeys(batch.column(self._columns.label).unique().to_pylist()))
        return list(distinct)[:most]

    def _pieces(self) -> Sequence[Piece[tuple[_Batches, ...]]]:
        return list(pieces_of((file, unit) for file in self._files for unit in self._units(file)))

    def _units(self, file: str) -> Iterator[Unit[_Batches]]:
        if not isinstance(self._system, fs.LocalFileSystem):
            sizes = [self._system.get_file_info(each).size for each in self._files]
            size = self._system.get_file_info(file).size
            examples = sum(each.get("num_examples", 0) for each in (self._info.get("splits") or {}).values())
            yield Unit(_Batches(file, 0, 0, None), max(1, examples * size // sum(sizes)), size)
            return
        first_row = 0
        for index, (batch, _) in enumerate(self._batches(_Batches(file, 0, 0, None))):
            size = sum(batch.column(name).nbytes for name in set(self._columns.by_content().values()))
            yield Unit(_Batches(file, index, first_row, 1), batch.num_rows, size)
            first_row += batch.num_rows

    def _read(self, content: tuple[_Batches, ...], labels: tuple[str, ...]) -> Iterator[Sample]:
        label_index = LabelIndex(labels)
        columns = self._columns.by_content()
        for batches in content:
            for batch, first_row in self._batches(batches):
                for row in range(batch.num_rows):
                    values: dict[str, Any] = {holds: batch.column(name)[row].as_py() for holds, name in columns.items()}
                    values["image"] = encoded_image(values["image"])
                    where = f"row {first_row + row} of {batches.file}"
                    yield self._rows.sample(values, where, label_index, self._class_names)

    def _batches(self, batches: _Batches) -> Iterator[tuple[pa.RecordBatch, int]]:
        """The record batches, each with the number of its first row."""
        first_row = batches.first_row
        stop = None if batches.count is None else batches.first + batches.count
        with self._reader(batches.file) as reader:
            # Of a local file, batches that are passed over are not read: it is mapped into memory.
            for batch in islice(reader, batches.first, stop):
                yield batch, first_row
                first_row += batch.num_rows

    @contextmanager
    def _reader(self, file: str) -> Iterator[ipc.RecordBatchStreamReader]:
        is_local = isinstance(self._system, fs.LocalFileSystem)
        try:
            with pa.memory_map(file) if is_local else self._system.open_input_stream(file) as stream:
                yield ipc.open_stream(stream)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read {file}: {error}") from error

    def _folder_of_split(self, location: str, split: str) -> str:
        found = self._json(f"{location}/{_SPLITS}")
        if found is None:
            if split:
                raise DataError(f"{self._path} is not divided into splits, so leave `split:` out")
            return location
        splits = [str(name) for name in found.get("splits", [])]
        chosen = [name for name in splits if same_split(name, split)] if split else splits
        if len(chosen) != 1:
            raise DataError(f"{self._path} holds the splits {', '.join(splits)}: choose one with `split:`")
        return f"{location}/{chosen[0]}"

    def _json(self, file: str) -> dict[str, Any] | None:
        """An object; None where there is no such file."""
        try:
            if self._system.get_file_info(file).type != fs.FileType.File:
                return None
            with self._system.open_input_stream(file) as stream:
                value = json.loads(stream.read())
        except (OSError, ValueError) as error:
            raise DataError(f"cannot read {file}: {error}") from error
        if not isinstance(value, dict):
            raise DataError(f"cannot read {file}: it is no JSON object")
        return value

    def _declared(self) -> tuple[str, ...]:
        """The label names in dataset_info.json; empty where it has none."""
        feature = (self._info.get("features") or {}).get(self._columns.label)
        names = feature.get("names") if isinstance(feature, dict) else None
        return tuple(map(str, names)) if isinstance(names, list) else ()
