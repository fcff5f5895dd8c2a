"""Rows from folders in the layout of ``datasets.Dataset.save_to_disk``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from source_files import LABELS, png, read

from lmeraser.config import ColumnsConfig, SourceConfig
from lmeraser.data import open_source, parts
from lmeraser.errors import DataError

FEATURES = {"img": {"_type": "Image"}, "kind": {"names": list(LABELS), "_type": "ClassLabel"}}


def saved(folder: Path, columns: dict[str, list[Any]], files: int = 2, rows_of_a_batch: int = 3, **state: Any) -> Path:
    """As datasets 3 and 4 write it: Arrow streams, and what they are in JSON."""
    folder.mkdir(parents=True)
    table = pa.table(columns)
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": FEATURES}})})
    names = [f"data-{number:05}-of-{files:05}.arrow" for number in range(files)]
    for number, name in enumerate(names):
        part = table[len(table) * number // files : len(table) * (number + 1) // files]
        with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(part, max_chunksize=rows_of_a_batch)
    described = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "0", "_split": None, **state}
    (folder / "state.json").write_text(json.dumps(described))
    info = {"features": FEATURES, "splits": {"train": {"num_examples": len(table)}}}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder


def columns_of(rows: int) -> dict[str, list[Any]]:
    structs = [{"bytes": png(row), "path": f"{row}.png"} for row in range(rows)]
    return {"img": structs, "kind": [row % 3 for row in range(rows)], "id": list(range(rows)), "user": ["ann"] * rows}


NAMED = ColumnsConfig(image="img", label="kind", sample_id="id", subject_id="user")


def test_rows_are_those_that_were_saved(tmp_path: Path) -> None:
    path = saved(tmp_path / "a", columns_of(17))
    assert open_source(SourceConfig("huggingface", str(path), columns=NAMED)).labels == LABELS
    rows = read(path, kind="huggingface", columns=NAMED)
    assert [(row.sample_id, row.subject_id, row.label, row.image) for row in rows] == [
        (str(row), "ann", row % 3, png(row)) for row in range(17)
    ]


def test_parts_are_batches_and_together_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_ROWS", 6)
    source = open_source(SourceConfig("huggingface", str(saved(tmp_path / "a", columns_of(17))), columns=NAMED))
    assert [part.rows for part in source.parts()] == [6, 2, 6, 3]
    whole = list(source.samples(LABELS))
    assert [row for part in source.parts() for row in source.read(part, LABELS)] == whole
    assert len(whole) == 17


def test_rows_without_ids_are_named_by_their_content(tmp_path: Path) -> None:
    path = saved(tmp_path / "a", columns_of(5))
    unnamed = ColumnsConfig(image="img", label="kind")
    rows = read(path, kind="huggingface", columns=unnamed)
    assert len({row.sample_id for row in rows}) == 5
    assert all(row.sample_id.startswith("image-") for row in rows)
    assert open_source(SourceConfig("huggingface", str(path), columns=unnamed)).label_values(2) == [0, 1]


def test_a_split_is_chosen(tmp_path: Path) -> None:
    for split, rows in (("train", 5), ("test", 2)):
        saved(tmp_path / split, columns_of(rows))
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    assert len(read(tmp_path, kind="huggingface", split="test", columns=NAMED)) == 2
    for split in ("", "dev"):
        with pytest.raises(DataError, match="holds the splits train, test: choose one"):
            read(tmp_path, kind="huggingface", columns=NAMED, split=split)
    with pytest.raises(DataError, match="leave `split:` out"):
        read(tmp_path / "train", kind="huggingface", split="train", columns=NAMED)


def test_a_folder_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no state\.json"):
        read(tmp_path, kind="huggingface")
    path = saved(tmp_path / "a", columns_of(3))
    with pytest.raises(DataError, match=r"arrow lacks the column image, label; it has img, kind, id, user"):
        read(path, kind="huggingface")
    moved = saved(tmp_path / "b", columns_of(3), _indices_data_files=[{"filename": "indices.arrow"}])
    with pytest.raises(DataError, match="flatten_indices"):
        read(moved, kind="huggingface", columns=NAMED)
    file = path / "data-00001-of-00002.arrow"
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"cannot read .*data-00001"):
        read(path, kind="huggingface", columns=NAMED)
