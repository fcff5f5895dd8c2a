"""Rows from manifests: files that name images."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from source_files import LABELS, png, read

from lmeraser.config import ColumnsConfig, SourceConfig
from lmeraser.data import open_source
from lmeraser.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "scans").mkdir()
    for row in range(6):
        (tmp_path / "scans" / f"{row}.png").write_bytes(png(row))
    return tmp_path


def rows_in(path: Path, labels: tuple[str, ...] = LABELS, **columns: str) -> list[tuple[str, str | None, str, bytes]]:
    rows = read(path, labels, kind="manifest", columns=ColumnsConfig(**columns))
    return [(row.sample_id, row.subject_id, labels[row.label], row.image) for row in rows]


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl"])
def test_each_record_is_a_row(folder: Path, form: str) -> None:
    records: list[dict[str, Any]] = [
        {"note": 'a "b",\nc\td', "image": "scans/3.png", "label": "dog", "subject_id": "ann"},
        {"note": "", "image": str(folder / "scans" / "1.png"), "label": "cat", "subject_id": ""},
        {"note": "é", "image": "scans/2.png", "label": 2, "subject_id": 7},
    ]
    path = folder / f"rows.{form}"
    if form == "jsonl":
        path.write_text("\n\n".join(map(json.dumps, records)))
    else:
        # With the mark that Excel writes, and Windows's line ends.
        with path.open("w", newline="", encoding="utf-8-sig") as opened:
            writer = csv.DictWriter(opened, list(records[0]), delimiter="," if form == "csv" else "\t")
            writer.writeheader()
            writer.writerows(records)
    assert rows_in(path) == [
        ("scans/3.png", "ann", "dog", png(3)),
        (str(folder / "scans" / "1.png"), None, "cat", png(1)),
        ("scans/2.png", "7", "eel", png(2)),
    ]
    assert open_source(SourceConfig("manifest", str(path))).count() == 3


def test_columns_may_have_other_names(folder: Path) -> None:
    path = folder / "rows.csv"
    path.write_text("who,file,kind,id\nann,scans/0.png,cat,x\nbob,scans/1.png,dog,y\n")
    rows = rows_in(path, image="file", label="kind", sample_id="id", subject_id="who")
    assert rows == [("x", "ann", "cat", png(0)), ("y", "bob", "dog", png(1))]
    with pytest.raises(DataError, match=r"rows\.csv lacks the column image, label; it has who, file, kind, id"):
        rows_in(path)


def test_parts_read_their_own_records_and_images(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmeraser.data.manifest.PART_ROWS", 2)
    path = folder / "rows.csv"
    records = [f'"scans/{row}.png",cat,"line\n{row}"' for row in range(5)]
    path.write_text("\n".join(["image,label,note", *records]) + "\n")
    source = open_source(SourceConfig("manifest", str(path)))
    assert [part.rows for part in source.parts()] == [2, 2, 1]
    (folder / "scans" / "0.png").unlink()
    assert [row.image for row in source.read(source.parts()[1], LABELS)] == [png(2), png(3)]
    assert list(source.sample_ids(LABELS)) == [f"scans/{row}.png" for row in range(5)]
    with pytest.raises(DataError, match=r"names the image scans/0\.png, which cannot be read"):
        list(source.read(source.parts()[0], LABELS))


def test_labels_that_are_not_declared_are_shown(folder: Path) -> None:
    path = folder / "rows.jsonl"
    path.write_text('{"image": "scans/0.png", "label": "b"}\n{"image": "scans/1.png", "label": "a"}')
    source = open_source(SourceConfig("manifest", str(path)))
    assert (source.labels, source.label_values(9)) == ((), ["b", "a"])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("rows.txt", "x", "its name must end in one of .csv, .tsv, .jsonl, .ndjson"),
        ("rows.csv", "", "holds no records"),
        ("rows.csv", "image,label\nscans/0.png", "has 1 fields; the first line has 2"),
        ("rows.csv", 'image,label\n"scans/0.png,cat', "cannot read .* from line 2"),
        ("rows.csv", "image,label\n,cat", "names no image"),
        ("rows.jsonl", '{"image": "scans/0.png", "label": "cat"}\n[1]', "other than objects"),
        ("rows.jsonl", '{"image": "scans/0.png", "label": 1.5}', "has the label 1.5; text or a whole number"),
        ("rows.jsonl", '{"image": "scans/0.png", "label": true}', "has the label True"),
        ("rows.jsonl", '{"image": "scans/0.png", "label": null}', "has no label"),
        ("rows.jsonl", "{", "cannot read"),
    ],
)
def test_a_record_that_cannot_be_used_is_named(folder: Path, name: str, text: str, message: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(DataError, match=message):
        rows_in(folder / name)


def test_a_manifest_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*nowhere\.csv"):
        rows_in(folder / "nowhere.csv")
