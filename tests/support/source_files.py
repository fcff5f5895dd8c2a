"""Small data sets on disk, and how tests read them."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from lmeraser.config import SourceConfig
from lmeraser.data import Sample, open_source

LABELS = ("cat", "dog", "eel")


def png(level: int = 7) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (3, 3), level).save(buffer, "PNG")
    return buffer.getvalue()


def parquet(path: Path, columns: dict[str, Any], names: Sequence[str] = ()) -> Path:
    """A Parquet file as Hugging Face's datasets write it; ``names`` are those of a ClassLabel."""
    table = pa.table(columns)
    if names:
        features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def images(number: int) -> list[bytes]:
    return [png(level) for level in range(number)]


def read(path: Path, labels: tuple[str, ...] = LABELS, kind: Any = "parquet", **options: Any) -> list[Sample]:
    return list(open_source(SourceConfig(kind=kind, path=str(path), **options)).samples(labels))
