"""Parts and shards: one after the other they are the source, and reading one opens nothing of the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from source_files import LABELS, png

from lmeraser.config import SourceConfig
from lmeraser.data import Source, SourceReport, open_source, parts
from lmeraser.errors import DataError

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
    path.mkdir(exist_ok=True)
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
            return open_source(SourceConfig(kind)).shard(20, 7)
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


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_ROWS", 5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_parts_and_shards_one_after_the_other_are_the_source(tmp_path: Path, kind: str) -> None:
    source = source_of(kind, tmp_path)
    labels = labels_of(source)
    rows = list(source.samples(labels))
    assert 0 < len({row.sample_id for row in rows}) <= source.count() <= sum(part.rows for part in source.parts())
    assert [row for part in source.parts() for row in source.read(part, labels)] == rows
    for num_shards in (1, 2, 3, 7, len(rows) + 1):
        shards = [source.shard(num_shards, index) for index in range(num_shards)]
        assert [row for shard in shards for row in shard.samples(labels)] == rows
        assert [name for shard in shards for name in shard.sample_ids(labels)] == [row.sample_id for row in rows]


@pytest.mark.parametrize("kind", ["parquet", "image folder", "torchvision"])
def test_shards_are_of_about_equal_size_and_can_be_divided(tmp_path: Path, kind: str) -> None:
    source = source_of(kind, tmp_path)
    labels = labels_of(source)
    assert max(part.rows for part in source.parts()) <= 5
    shards = [source.shard(3, index) for index in range(3)]
    counts = [shard.count() for shard in shards]
    assert counts == [len(list(shard.samples(labels))) for shard in shards]
    assert sum(counts) == ROWS and max(counts) - min(counts) <= 2 * 5
    halves = [shards[1].shard(2, index) for index in range(2)]
    assert [row for half in halves for row in half.samples(labels)] == list(shards[1].samples(labels))


def test_a_part_is_the_same_when_the_source_is_opened_again_and_refused_when_it_has_changed(tmp_path: Path) -> None:
    config = image_folder(tmp_path)
    before = open_source(config)
    rows = [list(before.read(part, LABELS)) for part in before.parts()]
    again = open_source(config)
    assert [list(again.read(part, LABELS)) for part in before.parts()] == rows
    (tmp_path / "dog" / "00.png").write_bytes(png(50))
    grown = open_source(config)
    assert [list(grown.read(part, LABELS)) for part in before.parts()[:1]] == rows[:1]
    with pytest.raises(DataError, match="the source has changed since it was opened"):
        grown.read(before.parts()[-1], LABELS)


def test_parts_say_how_many_bytes_they_are(tmp_path: Path) -> None:
    source = open_source(image_folder(tmp_path))
    files = [(tmp_path / row.sample_id).stat().st_size for row in source.samples(LABELS)]
    assert sum(part.size for part in source.parts()) == sum(files)
    table = open_source(parquet(tmp_path / "other", [f"row-{row}" for row in range(ROWS)], list(range(ROWS))))
    groups = [
        pq.read_metadata(file).row_group(group)
        for file, count in ((tmp_path / "other" / "a.parquet", 3), (tmp_path / "other" / "b.parquet", 3))
        for group in range(count)
    ]
    sizes = [group.column(index).total_compressed_size for group in groups for index in range(group.num_columns)]
    assert sum(part.size for part in table.parts()) == sum(sizes)


def test_the_unnamed_rows_of_a_part_are_counted(tmp_path: Path) -> None:
    report = SourceReport()
    source = open_source(parquet(tmp_path, None, list(range(ROWS))), report=report)
    counts = []
    for part in source.parts():
        before = report.unnamed
        counts.append((len(list(source.read(part, LABELS))), report.unnamed - before))
    assert counts == [(4, 4), (4, 4), (3, 3), (4, 4), (4, 4), (4, 4)]


def test_a_part_of_a_folder_opens_no_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(image_folder(tmp_path))
    opened: list[str] = []
    plain_open = Path.open

    def recorded(path: Path, *arguments: Any) -> Any:
        opened.append(path.relative_to(tmp_path).as_posix())
        return plain_open(path, *arguments)

    monkeypatch.setattr(Path, "open", recorded)
    assert list(source.shard(2, 1).sample_ids(LABELS)) and opened == []
    assert [row.sample_id for row in source.read(source.parts()[1], LABELS)] == opened


@pytest.mark.parametrize("ids", [[f"row-{row}" for row in range(ROWS)], None], ids=["named", "unnamed"])
def test_a_part_of_parquet_reads_its_own_row_groups_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ids: list[str | None] | None
) -> None:
    source = open_source(parquet(tmp_path, ids, list(range(ROWS))))
    groups: list[tuple[str, int]] = []
    plain_batches = pq.ParquetFile.iter_batches

    def recorded(file: Any, size: int, row_groups: list[int], columns: list[str]) -> Any:
        groups.extend((",".join(columns), group) for group in row_groups)
        return plain_batches(file, size, row_groups=row_groups, columns=columns)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", recorded)
    # The second group of the second file.
    assert len(list(source.read(source.parts()[4], LABELS))) == 4
    assert groups == [("image,label" if ids is None else "image,label,sample_id", 1)]
