"""Rows on their way into the store: each once, and those of neighbouring anchors together."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from actors.incoming import read_sums
from cluster.sorted_runs import SortedRuns
from lmeraser.config import StateConfig
from lmeraser.hashing import HashKey
from lmeraser.learning.partition import Dendrogram
from lmeraser.state.rows import RowTable
from lmeraser.store import LocalStore

ANCHORS = 128


def table(start: int, rows: int, image_bytes: int = 8) -> RowTable:
    """Rows at random anchors."""
    generator = np.random.default_rng(start)
    names = tuple(f"s{number:06d}" for number in range(start, start + rows))
    return RowTable(
        sample_ids=names,
        subject_ids=names,
        labels_N=np.zeros(rows, np.int64),
        images=tuple(generator.bytes(image_bytes) for _ in names),
        anchors_N=generator.integers(0, ANCHORS, rows).astype(np.int32),
        features_NH=generator.integers(-9, 9, (rows, 4)).astype(np.int16),
    )


def written(folder: Path, tables: list[RowTable]) -> list[RowTable]:
    store = LocalStore(folder)
    dendrogram = Dendrogram.fit(np.random.default_rng(0).normal(size=(ANCHORS, 8)).astype(np.float32))
    runs = SortedRuns(store, HashKey(bytes(32)), StateConfig(labels=("a", "b")), "incoming/a/0000-", dendrogram)
    for each in tables:
        runs.add(each)
    runs.write()
    return [
        RowTable.from_parquet(store.get(name), name) for name in store.names("incoming/") if name.endswith(".parquet")
    ]


def test_every_row_is_written_once_and_unchanged(tmp_path: Path) -> None:
    tables = [table(start, 256) for start in range(0, 10_240, 256)]
    read_back = written(tmp_path, tables)
    assert max(map(len, read_back)) == 256
    # One full run, and the rest.
    assert len(read_back) == (8192 + 2048) // 256
    assert RowTable.concatenate(read_back, 4).digest() == RowTable.concatenate(tables, 4).digest()


def test_the_sums_over_a_run_are_those_over_its_rows(tmp_path: Path) -> None:
    tables = [table(start, 256) for start in range(0, 10_240, 256)]
    rows = RowTable.concatenate(written(tmp_path, tables), 4)
    store = LocalStore(tmp_path)
    names = [name for name in store.names("incoming/") if name.endswith(".sums")]
    first, second = (read_sums(store, name) for name in names)
    features_NH = rows.features_NH.astype(np.int64)
    total = first + second
    assert (first.rows, second.rows) == (8192, 2048)
    np.testing.assert_array_equal(total.gram_HH, features_NH.T @ features_NH)
    np.testing.assert_array_equal(total.sums_H, features_NH.sum(axis=0))


def test_the_rows_of_an_anchor_are_in_few_objects(tmp_path: Path) -> None:
    read_back = written(tmp_path, [table(start, 256) for start in range(0, 8192, 256)])
    objects = Counter(anchor for each in read_back for anchor in set(each.anchors_N.tolist()))
    # Without the sorting, about 28 of 32.
    assert len(objects) == ANCHORS
    assert max(objects.values()) <= 2


@pytest.mark.slow
def test_large_images_are_written_in_smaller_runs(tmp_path: Path) -> None:
    read_back = written(tmp_path, [table(start, 16, image_bytes=1 << 20) for start in range(0, 96, 16)])
    # Runs of 64 MiB: four tables, then two.
    assert sorted(map(len, read_back)) == [32, 64]


def test_an_empty_table_writes_nothing(tmp_path: Path) -> None:
    assert written(tmp_path, [table(0, 0)]) == []
