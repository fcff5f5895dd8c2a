"""Rows from WebDataset shards, written by Python's own tarfile."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from source_files import LABELS, png, read

from lmeraser.config import ColumnsConfig, SourceConfig
from lmeraser.data import SourceReport, open_source, parts
from lmeraser.errors import DataError, UnknownLabelError


def shard(path: Path, members: dict[str, bytes], form: int = tarfile.GNU_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as archive:
        for name, content in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return path


def rows_in(path: Path, labels: tuple[str, ...] = LABELS, **columns: str) -> list[tuple[str, str | None, str, bytes]]:
    rows = read(path, labels, kind="webdataset", columns=ColumnsConfig(**columns))
    return [(row.sample_id, row.subject_id, labels[row.label], row.image) for row in rows]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_members_that_share_a_key_are_a_row(tmp_path: Path, form: int) -> None:
    shard(
        tmp_path / "a" / "0.tar",
        {
            "dir.x/0001.png": png(1),
            "dir.x/0001.cls": b"2\n",
            "dir.x/0001.txt": b"a caption",
            "0002.cls": b"cat",
            "0002.PNG": png(2),
        },
        form,
    )
    meta = {"label": "dog", "sample_id": 17, "subject_id": "ann", "width": 3}
    shard(tmp_path / "a" / "1.tar", {"é.json": json.dumps(meta).encode(), "é.png": png(3)}, form)
    assert rows_in(tmp_path / "a") == [
        ("dir.x/0001", None, "eel", png(1)),
        ("0002", None, "cat", png(2)),
        ("17", "ann", "dog", png(3)),
    ]


def test_members_and_keys_may_have_other_names(tmp_path: Path) -> None:
    meta = {"kind": 1, "id": "x", "user": 5}
    path = shard(tmp_path / "a.tar", {"0.left.png": png(1), "0.right.png": png(2), "0.json": json.dumps(meta).encode()})
    columns: dict[str, Any] = {"image": "right.png", "label": "kind", "sample_id": "id", "subject_id": "user"}
    assert rows_in(path, **columns) == [("x", "5", "dog", png(2))]
    with pytest.raises(DataError, match=r"several images, left\.png, right\.png: name one"):
        rows_in(path, label="kind")
    with pytest.raises(DataError, match=r"sample '0' of .*a\.tar has no sample_id: .*'uuid'.*kind, id, user in \.json"):
        rows_in(path, **columns | {"sample_id": "uuid"})
    with pytest.raises(DataError, match=r"has no label: .*'colour'"):
        rows_in(path, **columns | {"label": "colour"})


def test_a_number_as_text_is_a_name_if_there_is_one(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", {"0.png": png(1), "0.cls": b"7", "1.png": png(2), "1.cls": b"0"})
    assert [label for _, _, label, _ in rows_in(path, ("3", "7", "9"))] == ["7", "3"]
    with pytest.raises(UnknownLabelError, match="'0' has the label 7; declared are 'cat'"):
        rows_in(path)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"0.png": b"x", "0.json": b"{"}, r"\.json that cannot be parsed"),
        ({"0.png": b"x", "0.json": b"[1]"}, r"\.json that is no object"),
        ({"0.png": b"x", "0.json": b'{"label": 1.5}'}, "has no label"),
        ({"0.png": b"x", "0.json": b'{"label": true}'}, "has no label"),
        ({"0.png": b"x", "0.json": b'{"label": 1, "subject_id": 2.0}'}, "no subject_id: text or a whole number"),
        ({"0.png": b"x", "0.cls": b"\xff"}, "not UTF-8"),
        ({"0.png": b"x"}, r"has no label: .*it has \.png"),
    ],
)
def test_a_sample_that_says_nothing_usable_is_named(tmp_path: Path, members: dict[str, bytes], message: str) -> None:
    with pytest.raises(DataError, match=message):
        rows_in(shard(tmp_path / "a.tar", members))


def test_what_is_no_sample_is_counted(tmp_path: Path) -> None:
    shard(tmp_path / "train-000.tar", {"__meta__.json": b"{}", ".DS_Store": b"", "0.png": png(1), "0.cls": b"0"})
    (tmp_path / "sizes.json").write_text("{}")
    report = SourceReport()
    source = open_source(SourceConfig("webdataset", str(tmp_path), split="train"), report=report)
    assert source.count() == 1
    assert report.left_out == {"hidden": 2, ".json": 1}


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", {"0.png": bytes(5000), "0.cls": b"0", "1.png": png(1), "1.cls": b"0"})
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DataError, match=r"cannot read .*a\.tar"):
        rows_in(path)


def test_a_part_reads_the_bytes_of_its_own_samples_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_ROWS", 4)
    members: dict[str, bytes] = {}
    for row in range(10):
        # A name that takes headers of its own.
        members[f"{'x' * 120}{row}.png"] = png(row)
        members[f"{'x' * 120}{row}.cls"] = str(row % 3).encode()
    path = shard(tmp_path / "a.tar", members)
    source = open_source(SourceConfig("webdataset", str(path)))
    assert [part.rows for part in source.parts()] == [4, 4, 2]
    assert sum(part.size for part in source.parts()) <= path.stat().st_size
    whole = list(source.samples(LABELS))
    assert [row.image for row in whole] == [png(row) for row in range(10)]
    # What is not its own may be anything.
    content = path.read_bytes()
    first = source.parts()[0].size
    path.write_bytes(bytes(first) + content[first:])
    assert list(source.read(source.parts()[1], LABELS)) == whole[4:8]


def test_labels_that_are_not_declared_are_shown(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", {"0.png": png(1), "0.cls": b"b", "1.png": png(2), "1.cls": b"a"})
    source: Any = open_source(SourceConfig("webdataset", str(path)))
    assert (source.labels, source.label_values(9), source.label_values(1)) == ((), ["b", "a"], ["b"])
