"""Which columns a Parquet file must have, checked before any row is read."""

from __future__ import annotations

import json
from collections.abc import Callable

import pyarrow as pa
from pyarrow import types

from lmeraser.errors import DataError

COLUMNS = ("sample_id", "subject_id", "label", "image")
_NEEDED = ("image", "label")
_IDS = ("sample_id", "subject_id")
_Check = Callable[[pa.DataType], bool]
_TEXT: tuple[_Check, ...] = (types.is_string, types.is_large_string, types.is_string_view)
_BYTES: tuple[_Check, ...] = (
    types.is_binary,
    types.is_large_binary,
    types.is_binary_view,
    types.is_fixed_size_binary,
)


def check_columns(schema: pa.Schema, file: str) -> None:
    """Check the columns that are read.

    Raises:
        DataError: when one is missing, repeated, or of a type that is not supported.
    """
    missing = [name for name in _NEEDED if name not in schema.names]
    if missing:
        raise DataError(
            f"{file} lacks the column {', '.join(missing)}; it has {', '.join(schema.names)}, "
            "but image and label are needed"
        )
    repeated = [name for name in COLUMNS if schema.names.count(name) > 1]
    if repeated:
        raise DataError(f"{file} has the column {repeated[0]} more than once")
    for name in _IDS:
        if name in schema.names:
            _check_ids(name, schema.field(name).type, file)
    _check_label(schema.field("label").type, file)
    _check_image(schema.field("image").type, file)


def image_leaf(schema: pa.Schema) -> list[str]:
    """The column of the images' bytes, for a reader that keeps dictionaries; empty where it cannot keep them."""
    kind = schema.field("image").type
    name = "image.bytes" if types.is_struct(kind) else "image"
    bytes_type = kind.field("bytes").type if types.is_struct(kind) else kind
    return [name] if _is(bytes_type, types.is_binary, types.is_large_binary, types.is_binary_view) else []


def label_names(schema: pa.Schema) -> tuple[str, ...]:
    """ClassLabel names, as Hugging Face writes them into the schema's metadata; empty where there are none."""
    try:
        value = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        return tuple(map(str, value["info"]["features"]["label"]["names"]))
    except (ValueError, KeyError, TypeError):
        return ()


def _check_ids(name: str, kind: pa.DataType, file: str) -> None:
    """Refuse values that can be written as text in several ways: 7.0 or 7, True or true."""
    if not _is(kind, types.is_integer, types.is_null, *_TEXT, *_BYTES):
        raise DataError(
            f"{file}: the column {name} holds {kind}; ids are text or whole numbers, and null where there is none. "
            f"Write it as text or as int64 (in pandas, df['{name}'].astype('Int64') keeps gaps as null)"
        )


def _check_label(kind: pa.DataType, file: str) -> None:
    if not _is(kind, types.is_integer, types.is_null, *_TEXT):
        raise DataError(
            f"{file}: the column label holds {kind}; a number or a name is allowed. Write it as int64 or as text"
        )


def _check_image(kind: pa.DataType, file: str) -> None:
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
        f"{file}: the column image holds {content}; needed are the bytes of one encoded image per row, plain or in a "
        "struct with the field bytes. datasets' Image(decode=False) and embed_table_storage write such columns"
    )


def _is(kind: pa.DataType, *allowed: _Check) -> bool:
    value_type = kind.value_type if types.is_dictionary(kind) else kind
    return any(check(value_type) for check in allowed)
