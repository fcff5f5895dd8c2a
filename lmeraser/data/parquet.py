"""Rows from Parquet files in the layout of Hugging Face datasets.

Columns: ``image`` (bytes, or a struct with ``bytes``), ``label`` (a number, with or without ClassLabel names in the
schema's metadata, or a name), and perhaps ``sample_id`` and ``subject_id`` (text or integers;
null and the empty text are no id).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from lmeraser.data.labels import LabelPlaces
from lmeraser.data.sample import Sample
from lmeraser.errors import DataError
from lmeraser.store.filesystem import filesystem

_BATCH_ROWS = 512
_BUFFER_BYTES = 1 << 22
_NEEDED = ("image", "label")
_IDS = ("sample_id", "subject_id")


_ID_TYPES = (
    pa.types.is_integer,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
    pa.types.is_fixed_size_binary,
    pa.types.is_null,
)


class ParquetSource:
    """One Parquet file, or all ``*.parquet`` files of a folder in the order of their names.

    A row without ``sample_id`` is named after its file and its place in it.
    """

    def __init__(self, path: str) -> None:
        """Read the schema of what lies at a local path, or at ``s3://bucket/path?endpoint=URL``.

        Raises:
            DataError: when there is no such file, or it lacks a column.
        """
        self._system, place = filesystem(path)
        self._files = self._parquet_files(place)
        if not self._files:
            raise DataError(f"{path} holds no .parquet file")
        for file in self._files:
            schema = self._schema(file)
            missing = [name for name in _NEEDED if name not in schema.names]
            if missing:
                raise DataError(
                    f"{file} lacks the column {', '.join(missing)}; it has {', '.join(schema.names)}, "
                    "and image and label are needed"
                )
            _check_id_columns(schema, file)
        self.labels = _label_names(self._schema(self._files[0]))

    def samples(self, labels: tuple[str, ...]) -> Iterator[Sample]:
        """See Source.samples."""
        places = LabelPlaces(labels)
        for file in self._files:
            names = _label_names(self._schema(file))
            for row, columns in enumerate(self._rows(file)):
                where = f"row {row} of {file}"
                sample_id = _id(columns.get("sample_id"), where) or f"{PurePosixPath(file).stem}/{row}"
                yield Sample(
                    sample_id=sample_id,
                    subject_id=_id(columns.get("subject_id"), where),
                    label=_place(places, names, columns["label"], sample_id),
                    image=_encoded(columns["image"]),
                )

    def _parquet_files(self, place: str) -> list[str]:
        try:
            if self._system.get_file_info(place).type != fs.FileType.Directory:
                return [place]
            found = self._system.get_file_info(fs.FileSelector(place))
        except OSError as error:
            raise DataError(f"cannot read {place}: {error}") from error
        return sorted(file.path for file in found if file.is_file and file.extension == "parquet")

    def _rows(self, file: str) -> Iterator[dict[str, Any]]:
        wanted = (*_IDS, *_NEEDED)
        try:
            # Read piece by piece: by default, all of a row group's images would be held at a time.
            with pq.ParquetFile(file, filesystem=self._system, buffer_size=_BUFFER_BYTES) as opened:
                columns = [name for name in wanted if name in opened.schema_arrow.names]
                for batch in opened.iter_batches(_BATCH_ROWS, columns=columns):
                    yield from batch.to_pylist()
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read {file}: {error}") from error

    def _schema(self, file: str) -> pa.Schema:
        try:
            return pq.read_schema(file, filesystem=self._system)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"cannot read {file}: {error}") from error


def _check_id_columns(schema: pa.Schema, file: str) -> None:
    """Refuse a column whose values have no one form in which people write them: 7.0 or 7, True or true."""
    for name in _IDS:
        if name not in schema.names:
            continue
        kind = schema.field(name).type
        value_type = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not any(allowed(value_type) for allowed in _ID_TYPES):
            raise DataError(
                f"{file}: the column {name} holds {kind}; ids are text or whole numbers, and null where there is none. "
                f"Write it as text or as int64 (pandas: df['{name}'].astype('Int64') keeps gaps as null)"
            )


def _id(value: Any, where: str) -> str | None:
    """An id as text; None where there is none."""
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            raise DataError(
                f"{where} has the id {value!r}, which is not UTF-8; write it as text, in hex for one"
            ) from None
    return None if value is None or value == "" else str(value)


def _label_names(schema: pa.Schema) -> tuple[str, ...]:
    """ClassLabel names, as Hugging Face keeps them in the schema's metadata."""
    try:
        value = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        return tuple(value["info"]["features"]["label"]["names"])
    except (ValueError, KeyError, TypeError):
        return ()


def _place(places: LabelPlaces, names: tuple[str, ...], label: Any, sample_id: str) -> int:
    if isinstance(label, str):
        return places.of_name(label, sample_id)
    if not isinstance(label, int):
        raise DataError(f"sample {sample_id!r} has the label {label!r}; a number or a name is allowed")
    if names and 0 <= label < len(names):
        return places.of_name(names[label], sample_id)
    return places.of_number(label, sample_id)


def _encoded(image: Any) -> bytes:
    value = image.get("bytes") if isinstance(image, dict) else image
    # What is not there is reported as undecodable, together with its sample id.
    return value if isinstance(value, bytes) else b""
