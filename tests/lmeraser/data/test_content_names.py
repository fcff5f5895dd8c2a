"""Rows without a sample id: named by what is in them, so that no row takes over the name of another."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from source_files import LABELS, png

from lmeraser.config import SourceConfig
from lmeraser.data import Sample, SourceReport, open_source
from lmeraser.hashing import HashKey

KEY = HashKey(bytes(range(32)))


def rows_of(path: Path, columns: dict[str, Any], key: HashKey | None = KEY, names: Sequence[str] = ()) -> list[Sample]:
    features = {"info": {"features": {"label": {"names": list(names)}}}}
    pq.write_table(pa.table(columns).replace_schema_metadata({"huggingface": json.dumps(features)}), path)
    return list(open_source(SourceConfig("parquet", str(path)), name_key=key).samples(LABELS))


def named(path: Path, levels: list[int], key: HashKey | None = KEY, **more: Any) -> list[str]:
    columns = {"image": [png(level) for level in levels], "label": [level % 3 for level in levels], **more}
    return [row.sample_id for row in rows_of(path, columns, key)]


def test_removing_a_row_at_the_source_changes_no_other_rows_name(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    before = dict(zip(range(8), named(path, list(range(8))), strict=True))
    assert len(set(before.values())) == 8
    after = [0, 7, 3, 5]
    assert named(tmp_path / "other.parquet", after) == [before[level] for level in after]


def test_equal_rows_have_one_name_and_other_rows_with_the_same_image_have_names_of_their_own(tmp_path: Path) -> None:
    subjects = [None, None, None, None, "u1", "u2"]
    columns: dict[str, list[Any]] = {"image": [png(1)] * 6, "label": [0, 0, 0, 1, 0, 0], "subject_id": subjects}
    first, second, third, *others = (row.sample_id for row in rows_of(tmp_path / "a.parquet", columns))
    assert first == second == third
    assert len({first, *others}) == 4


def test_names_depend_on_the_key_and_not_on_the_file(tmp_path: Path) -> None:
    first = named(tmp_path / "a.parquet", [1, 2, 3])
    assert named(tmp_path / "b.parquet", [1, 2, 3]) == first
    assert set(named(tmp_path / "a.parquet", [1, 2, 3], HashKey(bytes(32)))).isdisjoint(first)
    assert set(named(tmp_path / "a.parquet", [1, 2, 3], None)).isdisjoint(first)


def test_the_index_of_a_label_is_not_part_of_the_name(tmp_path: Path) -> None:
    def name(label: int, names: Sequence[str]) -> str:
        return rows_of(tmp_path / "a.parquet", {"image": [png(1)], "label": [label]}, KEY, names)[0].sample_id

    assert name(1, LABELS) == name(1, LABELS[::-1]) == name(0, ("dog", "cat"))


def test_rows_with_and_without_ids_can_be_mixed_and_the_latter_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    columns = {"image": [png(1), png(2), png(3)], "label": [0, 1, 2], "sample_id": ["x", None, ""]}
    rows = rows_of(path, columns)
    assert [row.sample_id.startswith("image-") for row in rows] == [False, True, True]
    report = SourceReport()
    source = open_source(SourceConfig("parquet", str(path), max_rows=2), name_key=KEY, report=report)
    for _ in range(2):
        assert len(list(source.samples(LABELS))) == 2
        assert report.unnamed == 2


@pytest.mark.parametrize("rows", [1, 4, 7])
def test_rows_of_a_subset_have_the_same_names_as_among_all_rows(tmp_path: Path, rows: int) -> None:
    path = tmp_path / "a.parquet"
    everything = set(named(path, list(range(8))))
    drawn = open_source(SourceConfig("parquet", str(path), max_rows=rows), name_key=KEY).samples(LABELS)
    assert {row.sample_id for row in drawn} < everything
