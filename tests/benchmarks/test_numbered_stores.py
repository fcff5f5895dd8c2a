"""A made store is what its rows give, a coordinator keeps it so, and an interrupted making goes on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from small_system import finish

from benchmarks.lib import numbered_stores
from benchmarks.lib.numbered_rows import dendrogram, images_of, sample, sample_id, subject_id, table_of
from benchmarks.lib.numbered_stores import NumberedStore, copy_of, make, regions_of
from lmeraser.deletion import DeletionRequest
from lmeraser.learning.region import Region
from lmeraser.proof.contents import leaves_of_entry
from lmeraser.proof.recompute import fresh_leaves
from lmeraser.state.merkle import merkle_root

ROWS, MAX_CLUSTER_ROWS = 3000, 700


def fresh_root(made: NumberedStore, numbers: Iterable[int]) -> str:
    return merkle_root(fresh_leaves(made.method, made.manifest, made.hash_key, list(map(sample, numbers))))


def root(made: NumberedStore) -> str:
    commit = made.commit
    assert commit is not None
    return commit.root


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> NumberedStore:
    return make(tmp_path_factory.mktemp("numbered") / "3000", ROWS, MAX_CLUSTER_ROWS)


def test_a_made_store_has_the_state_that_its_rows_give(made: NumberedStore) -> None:
    commit = made.commit
    assert commit is not None
    assert [entry.rows for entry in commit.clusters] == [600] * 5
    assert all(entry.prompted_leaf is not None for entry in commit.clusters)
    assert commit.root == fresh_root(made, range(ROWS))


def test_the_objects_of_a_made_store_are_what_its_commit_names(made: NumberedStore) -> None:
    commit = made.commit
    assert commit is not None
    for entry in commit.clusters:
        assert leaves_of_entry(made.store, made.manifest, made.hash_key, entry) == entry.leaves()


def test_a_coordinator_leaves_the_state_of_the_remaining_rows(made: NumberedStore) -> None:
    with copy_of(made, "deleted") as copy:
        coordinator = copy.coordinator()
        # The rows of a subject, and so many others that some are coreset rows and all clusters but one stay large.
        numbers = {*range(0, ROWS, 7), 4, *range(1000, 1200)}
        deletion = coordinator.delete(
            DeletionRequest(tuple(sample_id(number) for number in sorted(numbers - {4})), (subject_id(4),))
        )
        finish(coordinator)
        assert coordinator.deletion(deletion.id).status == "completed"
        remaining = set(range(ROWS)) - numbers - {3, 5}
        assert copy.commit is not None and copy.commit.rows == len(remaining)
        assert root(copy) == fresh_root(copy, remaining)
    assert root(made) == fresh_root(made, range(ROWS))


@pytest.mark.slow
def test_10_thousand_rows_are_one_cluster_and_a_deletion_leaves_the_state_of_the_others(tmp_path: Path) -> None:
    made = make(tmp_path / "made", 10_000)
    assert made.commit is not None
    assert [entry.rows for entry in made.commit.clusters] == [10_000]
    coreset = set(made.method.coreset(table_of(np.arange(10_000))).sample_ids)
    erased = next(number for number in range(10_000) if sample_id(number) not in coreset)
    coordinator = made.coordinator()
    coordinator.delete(DeletionRequest((sample_id(erased),)))
    finish(coordinator)
    # The prompt stays, because the commit names the coreset that it was tuned on.
    assert coordinator.status().tunings == 0
    assert root(made) == fresh_root(made, [number for number in range(10_000) if number != erased])


def test_making_goes_on_after_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = numbered_stores._write_cluster
    written: list[str] = []

    def write_three(folder: Path, region: Region, rows: int) -> None:
        if len(written) == 3:
            raise KeyboardInterrupt
        write(folder, region, rows)
        written.append(region.key)

    with monkeypatch.context() as patch:
        patch.setattr(numbered_stores, "_write_cluster", write_three)
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path / "made", ROWS, MAX_CLUSTER_ROWS)
    kept = set((tmp_path / "made" / "store" / "rows").rglob("*.parquet"))
    made = make(tmp_path / "made", ROWS, MAX_CLUSTER_ROWS)
    assert kept and kept < set((tmp_path / "made" / "store" / "rows").rglob("*.parquet"))
    assert root(made) == fresh_root(made, range(ROWS))


def test_a_store_without_rows_has_no_commit(tmp_path: Path) -> None:
    made = make(tmp_path / "made", 0)
    assert made.commit is None
    assert made.coordinator().status().rows == 0


@pytest.mark.parametrize(
    ("rows", "bound", "clusters"),
    [(10_000, 20_000, 1), (100_000, 20_000, 5), (1_000_000, 20_000, 50), (10_000_000, 20_000, 500), (20_000, 20, 1000)],
)
def test_clusters_are_few_and_full(rows: int, bound: int, clusters: int) -> None:
    regions = regions_of(rows, bound)
    assert len(regions) == clusters
    assert {rows // 1000 * len(region.anchors) for region in regions} == {rows // clusters}
    assert len(dendrogram().leaves(1998)) == 1000


def test_rows_follow_from_their_numbers() -> None:
    together, alone = table_of(np.array([5, 8, 9_999_999])), table_of(np.array([8]))
    assert together.at(np.array([1])).digest() == alone.digest()
    images_NB = images_of(np.arange(1000))
    assert len({image.tobytes() for image in images_NB[:, 8:]}) == 1000
    assert 120 < images_NB[:, 8:].mean() < 135
