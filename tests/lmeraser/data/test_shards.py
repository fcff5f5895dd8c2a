"""Shards: the parts of a source, one after the other, are the source itself, and a part reads only what it must."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from source_files import LABELS, png

from lmeraser.config import SourceConfig
from lmeraser.data import Source, SourceReport, open_source
from lmeraser.data.sample import Shard

ROWS = 23


def image_folder(path: Path) -> SourceConfig:
    for row in range(ROWS):
        file = path / LABELS[row % 3] / f"{row}.png"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(png(row))
    (path / "cat" / "notes.txt").touch()
    return SourceConfig("image_folder", str(path))


def parquet(path: Path, ids: list[str | None] | None, levels: list[int]) -> SourceConfig:
    """Two files, with row groups of four rows."""
    columns: dict[str, Any] = {"image": [png(level) for level in levels], "label": [level % 3 for level in levels]}
    if ids is not None:
        columns["sample_id"] = pa.array(ids, pa.string())
    table = pa.table(columns)
    for name, part in (("a", table[: ROWS // 2]), ("b", table[ROWS // 2 :])):
        pq.write_table(part, path / f"{name}.parquet", row_group_size=4)
    return SourceConfig("parquet", str(path))


def source_of(kind: str, path: Path) -> Source:
    ids: list[str | None] = [f"row-{row}" for row in range(ROWS)]
    repeated = [row % 3 for row in range(ROWS)]
    match kind:
        case "parquet":
            config = parquet(path, ids, list(range(ROWS)))
        case "parquet without ids":
            config = parquet(path, None, repeated)
        case "parquet with some ids":
            config = parquet(path, [name if row % 5 else None for row, name in enumerate(ids)], repeated)
        case "parquet subset":
            config = SourceConfig("parquet", parquet(path, ids, repeated).path, max_rows=9)
        case "unnamed subset":
            config = SourceConfig("parquet", parquet(path, None, repeated).path, max_rows=9)
        case "image folder":
            config = image_folder(path)
        case "torchvision":
            for row, level in enumerate(repeated):
                file = path / LABELS[0] / f"{row:02}.png"
                file.parent.mkdir(exist_ok=True)
                file.write_bytes(png(level))
            config = SourceConfig("torchvision", str(path), "ImageFolder")
        case "digits" | "glyphs" | "coloured_digits" | "coloured_glyphs":
            # A part of the bundled data, because making all of it takes long.
            return open_source(SourceConfig(kind)).shard(50, 7)
        case _:
            raise ValueError(kind)
    return open_source(config)


def labels_of(source: Source) -> tuple[str, ...]:
    return source.labels or LABELS


KINDS = [
    "parquet",
    "parquet without ids",
    "parquet with some ids",
    "parquet subset",
    "unnamed subset",
    "image folder",
    "torchvision",
    "digits",
    "glyphs",
    "coloured_digits",
    "coloured_glyphs",
]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_shards_one_after_the_other_are_the_source(tmp_path: Path, kind: str) -> None:
    source = source_of(kind, tmp_path)
    labels = labels_of(source)
    rows = list(source.samples(labels))
    assert len({row.sample_id for row in rows}) == len(rows) == source.count()
    for num_shards in (1, 2, 3, 7, len(rows) + 1):
        shards = [source.shard(num_shards, index) for index in range(num_shards)]
        assert [row for shard in shards for row in shard.samples(labels)] == rows
        assert [name for shard in shards for name in shard.sample_ids(labels)] == [row.sample_id for row in rows]


@pytest.mark.parametrize("kind", ["parquet", "parquet without ids", "image folder", "torchvision"])
def test_shards_are_of_equal_size_and_can_be_divided(tmp_path: Path, kind: str) -> None:
    source = source_of(kind, tmp_path)
    labels = labels_of(source)
    shards = [source.shard(4, index) for index in range(4)]
    counts = [shard.count() for shard in shards]
    assert counts == [len(list(shard.samples(labels))) for shard in shards]
    assert sum(counts) == ROWS and max(counts) - min(counts) <= 1
    halves = [shards[1].shard(2, index) for index in range(2)]
    assert [row for half in halves for row in half.samples(labels)] == list(shards[1].samples(labels))


def test_a_shard_counts_its_own_unnamed_rows(tmp_path: Path) -> None:
    config = parquet(tmp_path, None, [row % 3 for row in range(ROWS)])
    counts = []
    for index in range(3):
        report = SourceReport()
        shard = open_source(config, report=report).shard(3, index)
        list(shard.sample_ids(LABELS))
        counts.append((len(list(shard.samples(LABELS))), report.unnamed))
    assert counts == [(7, 7), (8, 8), (8, 8)]


def test_a_shard_of_a_folder_opens_no_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(image_folder(tmp_path))
    opened: list[str] = []
    plain_open = Path.open

    def recorded(path: Path, *arguments: Any) -> Any:
        opened.append(path.relative_to(tmp_path).as_posix())
        return plain_open(path, *arguments)

    monkeypatch.setattr(Path, "open", recorded)
    shard = source.shard(2, 1)
    assert list(shard.sample_ids(LABELS)) and opened == []
    assert [row.sample_id for row in shard.samples(LABELS)] == opened


def test_a_shard_of_parquet_with_ids_reads_images_of_its_own_row_groups_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(parquet(tmp_path, [f"row-{row}" for row in range(ROWS)], list(range(ROWS))))
    groups: list[int] = []
    plain_batches = pq.ParquetFile.iter_batches

    def recorded(file: Any, size: int, row_groups: list[int], columns: list[str]) -> Any:
        if "image" in columns:
            groups.extend(row_groups)
        return plain_batches(file, size, row_groups=row_groups, columns=columns)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", recorded)
    # Rows 11 to 22 are the second file; rows 17 to 22 begin in its second group of four.
    assert len(list(source.shard(4, 3).samples(LABELS))) == 6
    assert groups == [1, 2]


@pytest.mark.parametrize("count", [0, 1, 5, 100])
@pytest.mark.parametrize("num_shards", [1, 2, 3, 8])
def test_the_rows_of_shards_are_contiguous_and_complete(count: int, num_shards: int) -> None:
    ranges = [Shard().part(num_shards, index).rows(count) for index in range(num_shards)]
    assert [row for rows in ranges for row in rows] == list(range(count))
