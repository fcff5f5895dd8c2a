"""What the columns of a Parquet or an Arrow file are for, guessed from their names, types and values."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lmeraser.config import ColumnsConfig
from lmeraser.data.table_columns import holds_ids, holds_images, holds_labels, label_names
from lmeraser.errors import DataError

# As public data sets call them, the likeliest first.
_IMAGES = ("image", "img", "picture", "photo", "jpg", "jpeg", "png", "image_bytes", "bytes", "content")
_LABELS = ("label", "labels", "fine_label", "class", "class_label", "target", "category", "label_name", "class_name")
_SAMPLES = ("sample_id", "id", "image_id", "uuid", "key", "__key__", "file_name", "filename")
_SUBJECTS = (
    *("subject_id", "subject", "user_id", "user", "person_id", "person", "patient_id", "patient", "identity"),
    *("participant_id", "participant", "writer_id", "writer", "author_id", "author"),
)

# Rows whose ids must be distinct, to be taken for ids of rows.
_LOOKED_AT = 1000


def guess_columns(file: Path) -> ColumnsConfig:
    """The columns of a file, as a configuration names them; the defaults where nothing better is found.

    Raises:
        DataError: when the file cannot be read.
    """
    defaults = ColumnsConfig()
    try:
        first = _first_rows(file)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"cannot read {file}: {error}") from error
    schema = first.schema
    columns = {name: schema.field(name).type for name in schema.names if schema.names.count(name) == 1}
    named = [name for name in columns if label_names(schema, name)]
    samples = _first(_SAMPLES, columns, holds_ids)
    if samples == "sample_id" or (samples and len(first.column(samples).unique()) < len(first)):
        samples = ""
    subjects = _first(_SUBJECTS, columns, holds_ids)
    return ColumnsConfig(
        image=_first(_IMAGES, columns, holds_images) or _only(columns, holds_images) or defaults.image,
        label=_first(_LABELS, columns, holds_labels) or (named[0] if len(named) == 1 else defaults.label),
        sample_id=samples,
        subject_id="" if subjects == "subject_id" else subjects,
    )


def _first_rows(file: Path) -> pa.Table:
    """The first rows of a file, at most 1000."""
    if file.suffix.lower() == ".parquet":
        with pq.ParquetFile(file) as opened:
            batches = list(islice(opened.iter_batches(_LOOKED_AT), 1))
            return pa.Table.from_batches(batches, opened.schema_arrow)
    with pa.memory_map(str(file)) as stream:
        reader = pa.ipc.open_stream(stream)
        return pa.Table.from_batches(list(islice(reader, 1)), reader.schema)


def _first(names: Iterable[str], columns: dict[str, pa.DataType], holds: Callable[[pa.DataType], bool]) -> str:
    return next((name for name in names if name in columns and holds(columns[name])), "")


def _only(columns: dict[str, pa.DataType], holds: Callable[[pa.DataType], bool]) -> str:
    able = [name for name, kind in columns.items() if holds(kind)]
    return able[0] if len(able) == 1 else ""
