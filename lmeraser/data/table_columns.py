"""Which column of a table holds what, checked before any row is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyarrow import types

from lmeraser.config import ColumnsConfig
from lmeraser.errors import DataError

_Check = Callable[[pa.DataType], bool]
_TEXT: tuple[_Check, ...] = (types.is_string, types.is_large_string, types.is_string_view)
_BYTES: tuple[_Check, ...] = (
    types.is_binary,
    types.is_large_binary,
    types.is_binary_view,
    types.is_fixed_size_binary,
)


@dataclass(frozen=True)
class Columns:
    """Names of a table's columns, by what they hold; None where the table has no such column."""

    image: str
    label: str
    sample_id: str | None
    subject_id: str | None

    @staticmethod
    def of(schema: pa.Schema, file: str, named: ColumnsConfig) -> Columns:
        """The columns of a table.

        Args:
            schema: the table's.
            file: where it is, for messages.
            named: what the configuration calls them.

        Raises:
            DataError: when one is missing, repeated, or of a type that is not supported.
        """
        columns = Columns.among(schema.names, file, named)
        for id_column in (columns.sample_id, columns.subject_id):
            if id_column is not None:
                _check_ids(id_column, schema.field(id_column).type, file)
        _check_label(columns.label, schema.field(columns.label).type, file)
        _check_image(columns.image, schema.field(columns.image).type, file)
        return columns

    @staticmethod
    def among(names: Sequence[str], file: str, named: ColumnsConfig) -> Columns:
        """The columns, whatever types they have, of a table that has columns of these names.

        Raises:
            DataError: when one is missing or repeated.
        """
        columns = Columns(
            image=named.image,
            label=named.label,
            sample_id=named.sample_id or ("sample_id" if "sample_id" in names else None),
            subject_id=named.subject_id or ("subject_id" if "subject_id" in names else None),
        )
        contents = columns.by_content()
        if missing := {holds: name for holds, name in contents.items() if name not in names}:
            raise DataError(
                f"{file} lacks the column {', '.join(missing.values())}; it has {', '.join(names)}: name the one that "
                f"holds {' and '.join(missing)} under `columns:`"
            )
        if repeated := [name for name in contents.values() if names.count(name) > 1]:
            raise DataError(f"{file} has the column {repeated[0]} more than once")
        return columns

    def by_content(self) -> dict[str, str]:
        """The columns that there are, by what they hold."""
        return {holds: name for holds, name in vars(self).items() if name is not None}


def holds_images(kind: pa.DataType) -> bool:
    """Whether a column of this type can hold encoded images."""
    if types.is_struct(kind):
        fields = (kind.field(index) for index in range(kind.num_fields))
        return any(field.name == "bytes" and _is(field.type, *_BYTES) for field in fields)
    return _is(kind, *_BYTES)


def holds_labels(kind: pa.DataType) -> bool:
    """Whether a column of this type can hold labels."""
    return _is(kind, types.is_integer, *_TEXT)


def holds_ids(kind: pa.DataType) -> bool:
    """Whether a column of this type can hold ids: not values that can be written in several ways, as 7.0 or 7."""
    return _is(kind, types.is_integer, types.is_null, *_TEXT, *_BYTES)


def image_leaf(schema: pa.Schema, image: str) -> list[str]:
    """The column of the images' bytes, for a reader that keeps dictionaries; empty where it cannot keep them."""
    kind = schema.field(image).type
    bytes_type = kind.field("bytes").type if types.is_struct(kind) else kind
    name = f"{image}.bytes" if types.is_struct(kind) else image
    return [name] if _is(bytes_type, types.is_binary, types.is_large_binary, types.is_binary_view) else []


def encoded_image(value: Any) -> bytes | None:
    """The bytes of an image, plain or in a struct; None where there are none."""
    return value.get("bytes") if isinstance(value, dict) else value


def label_names(schema: pa.Schema, label: str) -> tuple[str, ...]:
    """ClassLabel names, as Hugging Face writes them into the schema's metadata; empty where there are none."""
    try:
        value = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        return tuple(map(str, value["info"]["features"][label]["names"]))
    except (ValueError, KeyError, TypeError):
        return ()


def _check_ids(name: str, kind: pa.DataType, file: str) -> None:
    if not holds_ids(kind):
        raise DataError(
            f"{file}: the column {name} holds {kind}; ids are text or whole numbers, and null where there is none. "
            f"Write it as text or as int64 (in pandas, df['{name}'].astype('Int64') keeps gaps as null)"
        )


def _check_label(name: str, kind: pa.DataType, file: str) -> None:
    if not _is(kind, types.is_integer, types.is_null, *_TEXT):
        raise DataError(
            f"{file}: the column {name} holds {kind}; a number or a name is allowed. Write it as int64 or as text"
        )


def _check_image(name: str, kind: pa.DataType, file: str) -> None:
    if types.is_struct(kind):
        fields = [kind.field(index) for index in range(kind.num_fields)]
        bytes_type = next((field.type for field in fields if field.name == "bytes"), None)
        if bytes_type is not None and _is(bytes_type, types.is_null, *_BYTES):
            return
        content = f"structs of {', '.join(f'{field.name} ({field.type})' for field in fields)}"
    elif _is(kind, types.is_null, *_BYTES):
        return
    elif _is(kind, *_TEXT):
        content = "text: perhaps paths, URLs or base64"
    elif types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        inner = kind.value_type
        content = f"{kind}: " + (
            "several images per row" if types.is_struct(inner) or _is(inner, *_BYTES) else "perhaps pixels"
        )
    else:
        content = str(kind)
    raise DataError(
        f"{file}: the column {name} holds {content}; needed are the bytes of one encoded image per row, plain or in a "
        "struct with the field bytes. datasets' Image(decode=False) and embed_table_storage write such columns"
    )


def _is(kind: pa.DataType, *allowed: _Check) -> bool:
    value_type = kind.value_type if types.is_dictionary(kind) else kind
    return any(check(value_type) for check in allowed)
