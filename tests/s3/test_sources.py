"""Rows in a bucket, in each of the forms that are read from one."""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any

import pyarrow as pa
import pytest
from small_system import LABELS, samples

from benchmarks.lib.s3_server import S3Server
from lmeraser.config import ColumnsConfig, SourceConfig
from lmeraser.data import located, open_source
from lmeraser.errors import ConfigError, DataError

ROWS = samples(0, 30)
NAMED = ColumnsConfig(label="kind")


def tar_shards() -> dict[str, bytes]:
    shards = {}
    for number, rows in enumerate((ROWS[:20], ROWS[20:])):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for row in rows:
                meta = json.dumps({"kind": row.label, "subject_id": row.subject_id}).encode()
                for suffix, content in (("png", row.image), ("json", meta)):
                    header = tarfile.TarInfo(f"{row.sample_id}.{suffix}")
                    header.size = len(content)
                    archive.addfile(header, io.BytesIO(content))
        shards[f"{number}.tar"] = buffer.getvalue()
    return shards


def saved_to_disk() -> dict[str, bytes]:
    table = pa.table(
        {
            "image": [{"bytes": row.image, "path": None} for row in ROWS],
            "kind": [row.label for row in ROWS],
            "sample_id": [row.sample_id for row in ROWS],
            "subject_id": [row.subject_id for row in ROWS],
        }
    )
    files = {"state.json": json.dumps({"_data_files": [{"filename": "0.arrow"}, {"filename": "1.arrow"}]}).encode()}
    for name, part in (("0.arrow", table[:20]), ("1.arrow", table[20:])):
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(part, max_chunksize=7)
        files[name] = sink.getvalue()
    return files


def manifest() -> dict[str, bytes]:
    records = [
        {"image": f"img/{row.sample_id}.png", "kind": row.label, "id": row.sample_id, "subject_id": row.subject_id}
        for row in ROWS
    ]
    return {
        "rows.jsonl": "\n".join(map(json.dumps, records)).encode(),
        **{f"img/{row.sample_id}.png": row.image for row in ROWS},
    }


@pytest.mark.parametrize(
    ("kind", "files", "file", "columns"),
    [
        ("webdataset", tar_shards(), "", NAMED),
        ("huggingface", saved_to_disk(), "", NAMED),
        ("manifest", manifest(), "/rows.jsonl", ColumnsConfig(label="kind", sample_id="id")),
    ],
    ids=["webdataset", "huggingface", "manifest"],
)
def test_rows_are_read_from_a_bucket(
    s3: S3Server, kind: Any, files: dict[str, bytes], file: str, columns: ColumnsConfig
) -> None:
    bucket = s3.bucket()
    for name, content in files.items():
        s3.client().put_object(Bucket=bucket, Key=f"data/{name}", Body=content)
    path = f"s3://{bucket}/data{file}?endpoint={s3.endpoint}"
    source = open_source(located(SourceConfig(kind, path, columns=columns)))
    assert list(source.samples(LABELS)) == ROWS
    assert [row for part in source.parts() for row in source.read(part, LABELS)] == ROWS
    assert all(part.size > 0 for part in source.parts())
    with pytest.raises(DataError, match="nothing"):
        open_source(SourceConfig(kind, f"s3://{bucket}/nothing{file}?endpoint={s3.endpoint}", columns=columns))


def test_an_image_folder_is_not_read_from_a_bucket() -> None:
    with pytest.raises(ConfigError, match="only parquet, webdataset, huggingface and manifest are read from S3"):
        open_source(SourceConfig("image_folder", "s3://rows/a"))
