"""Subsets of a source by ``max_rows``."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from source_files import parquet, png, read

from lmeraser.config import SourceConfig
from lmeraser.data import open_source


def ids_of(path: Path, rows: int | None) -> list[str]:
    return [row.sample_id for row in read(path, max_rows=rows)]


@pytest.fixture
def two_orders(tmp_path: Path) -> tuple[Path, Path]:
    """The same hundred rows in two orders."""
    paths = []
    for order in range(2):
        ids = [f"row-{index}" for index in range(100)]
        random.Random(order).shuffle(ids)
        columns = {"image": [png(1)] * 100, "label": [0] * 100, "sample_id": ids}
        paths.append(parquet(tmp_path / f"{order}.parquet", columns))
    return paths[0], paths[1]


@pytest.mark.parametrize("rows", [1, 7, 50, 99])
def test_a_subset_does_not_depend_on_the_order_of_rows(two_orders: tuple[Path, Path], rows: int) -> None:
    one, other = (ids_of(path, rows) for path in two_orders)
    assert ids_of(two_orders[0], None) != ids_of(two_orders[1], None)
    assert set(one) == set(other)
    assert len(one) == len(set(one)) == rows


def test_a_subset_keeps_the_order_of_the_source(two_orders: tuple[Path, Path]) -> None:
    everything = ids_of(two_orders[0], None)
    drawn = ids_of(two_orders[0], 30)
    assert drawn == [name for name in everything if name in drawn]
    assert drawn != everything[:30]


def test_a_smaller_subset_is_part_of_a_larger_one(two_orders: tuple[Path, Path]) -> None:
    draws = [set(ids_of(two_orders[0], rows)) for rows in (3, 20, 60, 100)]
    assert draws[0] < draws[1] < draws[2] < draws[3]


def test_removing_a_row_outside_the_subset_changes_nothing(two_orders: tuple[Path, Path], tmp_path: Path) -> None:
    drawn = set(ids_of(two_orders[0], 20))
    ids = [name for name in ids_of(two_orders[0], None) if name in drawn or name.endswith("7")]
    assert 20 < len(ids) < 100
    columns = {"image": [png(1)] * len(ids), "label": [0] * len(ids), "sample_id": ids}
    assert set(ids_of(parquet(tmp_path / "fewer.parquet", columns), 20)) == drawn


@pytest.mark.parametrize("rows", [100, 101, 10_000])
def test_a_subset_of_more_rows_than_there_are_is_the_whole_source(two_orders: tuple[Path, Path], rows: int) -> None:
    assert ids_of(two_orders[0], rows) == ids_of(two_orders[0], None)


def test_a_subset_has_the_labels_of_its_source() -> None:
    assert open_source(SourceConfig(kind="digits", max_rows=3)).labels == tuple("0123456789")


def test_rows_that_are_equal_count_once(tmp_path: Path) -> None:
    columns = {"image": [png(level % 5) for level in range(20)], "label": [0] * 20}
    path = parquet(tmp_path / "a.parquet", columns)
    assert [len(set(ids_of(path, rows))) for rows in (1, 3, 5, 9)] == [1, 3, 5, 5]
