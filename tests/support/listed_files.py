"""Files of data in a folder, and what a source reads and leaves out of them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from source_files import png

from lmeraser.config import ImagesConfig, SourceConfig
from lmeraser.data import SourceReport, open_source


def put(folder: Path, *names: str) -> None:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png())


def put_parquet(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        columns = {"image": [png()], "label": ["red"], "sample_id": [name]}
        pq.write_table(pa.table(columns), folder / name)


def read(config: SourceConfig, images: ImagesConfig | None = None) -> tuple[list[str], dict[str, int]]:
    report = SourceReport()
    source = open_source(config, images=images, report=report)
    ids: list[str] = []
    for _ in range(2):
        ids = [row.sample_id for row in source.samples(source.labels or ("red", "blue"))]
    return ids, dict(report.left_out)
