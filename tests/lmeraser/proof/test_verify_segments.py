"""Verification of clusters whose rows lie in several segments: each object counts, and how the rows are cut does not.

Legend: N rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from forged_commits import commit_entry, with_segments
from small_system import System, samples
from stored_rows import rows_of, specialist_of

from lmeraser.errors import ObjectCorruptError, ObjectMissingError
from lmeraser.proof.verify import Verification, verify
from lmeraser.state.cluster_entry import ClusterEntry, Segment
from lmeraser.state.digests import state_leaf
from lmeraser.state.layout import index_object
from lmeraser.state.rows import RowTable
from lmeraser.state.segment import SegmentIndex
from lmeraser.state.specialist import PromptedFeatures
from lmeraser.store import unfenced

SystemOf = Callable[..., System]
pytestmark = pytest.mark.usefixtures("recomputed_in_a_thread")


@pytest.fixture
def system(system_of: SystemOf, monkeypatch: pytest.MonkeyPatch) -> System:
    """Clusters of at most five rows in segments of at most two."""
    monkeypatch.setattr("lmeraser.state.segment.MAX_SEGMENT_ROWS", 2)
    return system_of("minute", 0, ingest_24)


def ingest_24(system: System) -> None:
    system.ingest(samples(0, 24))


def verified(system: System) -> Verification:
    return verify(system.store, system.hash_key)


def largest(system: System) -> ClusterEntry:
    entry = max(system.newest().clusters, key=lambda entry: entry.rows)
    assert entry.prompted_leaf is not None and len(entry.segments) == 3
    return entry


def newest_of(system: System, entry: ClusterEntry) -> ClusterEntry:
    newest = system.newest().entry(entry.key)
    assert newest is not None
    return newest


def features_of(system: System, segment: Segment) -> np.ndarray:
    name = str(segment.prompted_object)
    return PromptedFeatures.from_safetensors(system.store.get(name), name).features_NH


def table_of(system: System, segment: Segment) -> RowTable:
    return RowTable.from_parquet(system.store.get(segment.rows_object), segment.rows_object)


def put_index(system: System, segment: Segment, rows: RowTable) -> None:
    """Write the index of these rows as that of the segment."""
    index = SegmentIndex.of(rows, system.manifest.config.seed, system.hash_key)
    system.store.put(index_object(segment.rows_object), index.to_safetensors())


def flip_last(system: System, name: str | None) -> None:
    data = bytearray(system.store.get(str(name)))
    data[-1] ^= 1
    system.store.put(str(name), bytes(data))


@pytest.mark.slow
def test_an_honest_store_of_many_segments_is_equal_whole_and_by_cluster(system: System) -> None:
    whole = verified(system)
    assert whole.equal and whole.rows == 24
    assert whole.fresh_root == system.newest().root == system.fresh_root(samples(0, 24))
    one = verify(system.store, system.hash_key, largest(system).key)
    assert (one.equal, one.rows) == (True, 5)


@pytest.mark.parametrize("lengths", [(5,), (1, 4), (2, 1, 2), (1, 1, 1, 1, 1)])
def test_rows_that_move_between_segments_of_a_cluster_change_nothing(system: System, lengths: tuple[int, ...]) -> None:
    before, entry = system.newest(), largest(system)
    rows, features_NH = rows_of(system.store, entry), specialist_of(system.store, entry).features_NH
    # In reverse, so that no two rows that were in one segment need be in one again.
    order, parts = np.arange(len(rows))[::-1], []
    for length in lengths:
        positions, order = np.sort(order[:length]), order[length:]
        parts.append((rows.at(positions), features_NH[positions]))
    commit_entry(system, with_segments(system, entry, list(parts)))
    assert len(newest_of(system, entry).segments) == len(lengths)
    assert system.newest().root == before.root
    assert verified(system).equal


@pytest.mark.parametrize("number", [0, 1, 2])
def test_one_damaged_segment_of_several_is_reported(system: System, number: int) -> None:
    entry = largest(system)
    segment = entry.segments[number]
    rows = table_of(system, segment)
    changed_NH = rows.features_NH.copy()
    changed_NH[0, 0] ^= 1
    system.store.put(segment.rows_object, replace(rows, features_NH=changed_NH).to_parquet())
    # Prompted features are those of rows, so they cannot be compared without them.
    assert tuple(verified(system).damaged) == (f"prompted/{entry.key}", f"rows/{entry.key}")


@pytest.mark.parametrize("number", [0, 1, 2])
def test_one_damaged_object_of_prompted_features_is_reported(system: System, number: int) -> None:
    entry = largest(system)
    flip_last(system, entry.segments[number].prompted_object)
    assert verified(system).differing == (f"prompted/{entry.key}",)


@pytest.mark.parametrize("damage", ["flipped", "missing", "no index"])
def test_a_damaged_index_is_reported(system: System, damage: str) -> None:
    entry = largest(system)
    name = index_object(entry.segments[1].rows_object)
    if damage == "flipped":
        flip_last(system, name)
    elif damage == "missing":
        system.store.purge(name, unfenced)
    else:
        system.store.put(name, b"anything")
    assert tuple(verified(system).damaged) == (f"prompted/{entry.key}", f"rows/{entry.key}")


@pytest.mark.parametrize("columns", ["other rows", "hidden subject"])
def test_an_index_that_is_not_that_of_its_rows_is_reported_even_if_the_commit_names_it(
    system: System, columns: str
) -> None:
    entry = largest(system)
    first, second, third = entry.segments
    rows = table_of(system, first)
    # Rows that a deletion does not find by their subject would never be erased.
    claimed = table_of(system, second) if columns == "other rows" else replace(rows, subject_ids=(None, None))
    put_index(system, first, claimed)
    index = SegmentIndex.of(claimed, system.manifest.config.seed, system.hash_key)
    leaf = state_leaf(system.hash_key, f"segment/{entry.key}", index.digest())
    commit_entry(system, replace(entry, segments=(replace(first, leaf=leaf), second, third)))
    assert tuple(verified(system).damaged) == (f"prompted/{entry.key}", f"rows/{entry.key}")


def test_prompted_features_of_another_segment_are_reported(system: System) -> None:
    entry = largest(system)
    first, second, third = entry.segments
    swapped = (
        replace(first, prompted_object=second.prompted_object, prompted_leaf=second.prompted_leaf),
        replace(second, prompted_object=first.prompted_object, prompted_leaf=first.prompted_leaf),
        third,
    )
    assert not np.array_equal(features_of(system, first), features_of(system, second))
    commit_entry(system, replace(entry, segments=swapped))
    assert verified(system).differing == (f"prompted/{entry.key}",)


def test_a_segment_whose_features_are_too_few_is_reported(system: System) -> None:
    entry = largest(system)
    first = entry.segments[0]
    fewer = PromptedFeatures(features_of(system, first)[1:])
    system.store.put(str(first.prompted_object), fewer.to_safetensors())
    assert tuple(verified(system).damaged) == (f"prompted/{entry.key}",)


def test_a_segment_that_the_commit_leaves_out_is_reported(system: System) -> None:
    entry = largest(system)
    commit_entry(system, replace(entry, segments=entry.segments[:2]))
    differing = set(verified(system).differing)
    assert {f"rows/{entry.key}", f"prompted/{entry.key}", "heads"} <= differing


def test_a_segment_that_the_commit_names_twice_is_an_error(system: System) -> None:
    entry = largest(system)
    commit_entry(system, replace(entry, segments=(*entry.segments, entry.segments[0])))
    assert not verified(system).equal


@pytest.mark.parametrize("damage", ["cut off", "missing"])
def test_the_rows_of_one_segment_that_cannot_be_read_are_an_error_that_names_them(system: System, damage: str) -> None:
    name = largest(system).segments[1].rows_object
    if damage == "missing":
        system.store.purge(name, unfenced)
    else:
        system.store.put(name, system.store.get(name)[:-5])
    with pytest.raises((ObjectMissingError, ObjectCorruptError), match=name):
        verified(system)


def test_a_deletion_rewrites_only_the_segments_that_hold_its_rows(system: System) -> None:
    entry = largest(system)
    erased = table_of(system, entry.segments[0]).sample_ids[0]
    system.delete(erased)
    after = newest_of(system, entry)
    kept = {segment.rows_object for segment in entry.segments[1:] if segment.rows == 2}
    assert kept and kept <= {segment.rows_object for segment in after.segments}
    remaining = [row for row in samples(0, 24) if row.sample_id != erased]
    assert verified(system).equal and system.newest().root == system.fresh_root(remaining)
