"""Tables of ids: CSV, JSON lines or Parquet, with the ids as text in one column.

Ids are kept exactly as they are written: blanks, leading zeros and letters stay. A table is read as a whole or not at
all: whatever is malformed is named by the number of its line, or of its row in Parquet.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, Literal, get_args

from lmeraser.errors import DataError
from lmeraser.ids import fault_of_id
from lmeraser.json_keys import repeated_key

TableFormat = Literal["csv", "jsonl", "parquet"]
FORMATS: tuple[TableFormat, ...] = get_args(TableFormat)
CONTENT_TYPES: dict[TableFormat, str] = {
    "csv": "text/csv",
    "jsonl": "application/jsonl",
    "parquet": "application/vnd.apache.parquet",
}
MAX_TABLE_IDS = 1_000_000
# Malformed lines that a message names.
_NAMED = 10
_SUFFIXES: dict[str, TableFormat] = {
    **dict.fromkeys((".csv", ".tsv", ".txt"), "csv"),
    **dict.fromkeys((".jsonl", ".ndjson"), "jsonl"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
}
# Columns that are taken where none is named.
_COLUMNS = ("id", "ids", "sample_id", "sample_ids", "subject_id", "subject_ids", "sample", "subject")
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_Cell = tuple[int, Any]


def format_of(name: str) -> TableFormat:
    """The format of a file of this name.

    Raises:
        DataError: when its end does not say.
    """
    suffix = PurePosixPath(name).suffix.lower()
    if suffix not in _SUFFIXES:
        raise DataError(f"{name} ends with {suffix or 'nothing'}; allowed are {', '.join(_SUFFIXES)}")
    return _SUFFIXES[suffix]


def read_ids(data: bytes, table_format: TableFormat, column: str | None = None) -> list[str]:
    """The ids of a table in its order, each once.

    Args:
        data: the file.
        table_format: what it is.
        column: the column of the ids; when None, the only column that is named like one of ids.

    Raises:
        DataError: when the table cannot be read, has no such column, holds no id or more than 1,000,000, or a line is
            malformed; the message names the first of these lines.
    """
    if table_format == "parquet":
        what, cells = "row", _parquet_cells(data, column)
    else:
        what, cells = "line", (_csv_cells if table_format == "csv" else _json_cells)(_decoded(data), column)
    ids: dict[str, None] = {}
    faults: list[str] = []
    count = 0
    for number, value in cells:
        fault = _fault_of(value)
        if fault is None:
            ids[str(value)] = None
            if len(ids) > MAX_TABLE_IDS:
                raise DataError(f"the table holds more than {MAX_TABLE_IDS:,} ids: divide it")
            continue
        count += 1
        if len(faults) < _NAMED:
            faults.append(f"{what} {number} {fault}")
    if faults:
        more = f"; and {count - len(faults)} more" if count > len(faults) else ""
        raise DataError(f"{count} {what}(s) of the table are malformed: {'; '.join(faults)}{more}")
    if not ids:
        raise DataError("the table holds no id")
    return list(ids)


class _FaultyLine(str):
    """Stands for the id of a line that has none, and says why."""


def _fault_of(value: Any) -> str | None:
    if isinstance(value, _FaultyLine):
        return str(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        return f"has {value!r} in place of an id; allowed are text and whole numbers"
    fault = fault_of_id(str(value))
    return None if fault is None else f"has an id that {fault}"


def _decoded(data: bytes) -> str:
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"line {line} of the table is not {encoding.upper().removesuffix('-SIG')}; allowed is UTF-8, or UTF-16 "
            "with a byte order mark"
        ) from error
    if "\0" in text:
        raise DataError("the table holds NUL characters, as UTF-16 without a byte order mark does")
    return text


def _csv_cells(text: str, column: str | None) -> Iterator[_Cell]:
    header_line = text.lstrip("\r\n").partition("\n")[0]
    delimiter = max(",;\t", key=header_line.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    position = line = 0
    try:
        for row in reader:
            number, line = line + 1, reader.line_num
            if not row:
                continue
            if header is None:
                header = [name.strip() for name in row]
                position = header.index(_column(header, column))
            elif len(row) != len(header):
                yield number, _FaultyLine(f"has {len(row)} field(s), and the header has {len(header)}")
            else:
                yield number, row[position]
    except csv.Error as error:
        yield line + 1, _FaultyLine(f"cannot be read: {error}")


def _json_cells(text: str, column: str | None) -> Iterator[_Cell]:
    name: str | None = None
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line, object_pairs_hook=_object)
        except (ValueError, RecursionError) as error:
            yield number, _FaultyLine(f"is not JSON: {error}")
            continue
        if isinstance(value, dict):
            name = name or _column(list(value), column)
            yield number, value[name] if name in value else _FaultyLine(f"has no {name!r}")
        else:
            yield number, value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if (key := repeated_key(pairs)) is not None:
        raise ValueError(f"the key {key!r} appears twice")
    return dict(pairs)


def _parquet_cells(data: bytes, column: str | None) -> Iterator[_Cell]:
    # Imported here: tables of text need none of it.
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        name = _column(file.schema_arrow.names, column)
        number = 0
        for batch in file.iter_batches(columns=[name]):
            for value in batch.column(0):
                number += 1
                yield number, _as_text(value.as_py())
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"the table is not Parquet: {error}") from error


def _as_text(value: Any) -> Any:
    """Bytes as text where they are UTF-8."""
    try:
        return value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        return value


def _column(names: list[str], column: str | None) -> str:
    if column is not None:
        if names.count(column) != 1:
            raise DataError(f"the table has the columns {', '.join(map(repr, names))}; {column!r} is not one of them")
        return column
    likely = [name for name in names if name.casefold() in _COLUMNS]
    if len(likely) != 1:
        raise DataError(
            f"the table has the columns {', '.join(map(repr, names))}, and its first line must name them: name the one "
            "with the ids"
        )
    return likely[0]
