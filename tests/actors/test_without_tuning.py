"""Deletions and additions outside the coreset: no tuning, and work in proportion to the segments that they touch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from small_system import System, finish, samples
from stored_rows import rows_of

from actors.coordinator import Coordinator
from actors.jobs import PromptJob
from actors.owners import InProcessOwners, TuningResult
from lmeraser.data import Sample
from lmeraser.deletion import DeletionRequest
from lmeraser.proof.receipts import verify_receipt
from lmeraser.state.cluster_entry import ClusterEntry
from lmeraser.state.keys import load_signing_key
from lmeraser.state.pipeline import Pipeline
from lmeraser.state.rows import RowTable
from lmeraser.store import LocalStore

SystemOf = Callable[..., System]
ROWS = {row.sample_id: row for row in samples(0, 120)}


@dataclass
class Passes:
    """What went through the backbone: coresets that were tuned on, and images that were embedded under a prompt."""

    tuned: list[int] = field(default_factory=list)
    embedded: list[int] = field(default_factory=list)

    def reset(self) -> None:
        self.tuned.clear()
        self.embedded.clear()


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Passes:
    counted = Passes()
    tuned_prompt, embedded = Pipeline.tuned_prompt, Pipeline.embedded

    def tunes(self: Pipeline, rows: RowTable, *arguments: object) -> np.ndarray:
        counted.tuned.append(len(rows))
        return tuned_prompt(self, rows, *arguments)  # type: ignore[arg-type]

    def embeds(self: Pipeline, images: Sequence[bytes], prompt: np.ndarray) -> np.ndarray:
        counted.embedded.append(len(images))
        return embedded(self, images, prompt)

    monkeypatch.setattr(Pipeline, "tuned_prompt", tunes)
    monkeypatch.setattr(Pipeline, "embedded", embeds)
    return counted


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmeraser.state.segment.MAX_SEGMENT_ROWS", 8)


def largest(system: System) -> ClusterEntry:
    return max(system.newest().clusters, key=lambda entry: entry.rows)


def split(system: System, entry: ClusterEntry) -> tuple[list[str], list[str]]:
    """The ids of a cluster's rows: those of the coreset, and the others."""
    table = rows_of(system.store, entry)
    chosen = set(system.pipeline().coreset(table).sample_ids)
    return sorted(chosen), sorted(set(table.sample_ids) - chosen)


def fresh(system: System, *deleted: str, rows: int = 90) -> str:
    return system.fresh_root([row for row in samples(0, rows) if row.sample_id not in deleted])


def same_region(before: ClusterEntry, system: System) -> ClusterEntry:
    after = system.newest().entry(before.key)
    assert after is not None
    return after


def test_a_row_outside_the_coreset_is_erased_and_completed_by_one_commit(system_of: SystemOf, passes: Passes) -> None:
    system = system_of("coreset")
    entry = largest(system)
    name = split(system, entry)[1][0]
    coordinator, before = system.coordinator(), system.newest()
    passes.reset()
    deletion = coordinator.delete(DeletionRequest((name,)))
    coordinator.step()
    completed = coordinator.deletion(deletion.id)
    assert completed.status == "completed"
    receipt = coordinator.receipt(deletion.id)
    verify_receipt(receipt, load_signing_key(system.keys).public_key())
    assert receipt["completed_at"] == receipt["erased_at"]
    assert receipt["completed"] == {"log": receipt["after"]["log"], "root": receipt["after"]["root"]}
    after = same_region(entry, system)
    assert (after.prompt_object, after.prompt_leaf) == (entry.prompt_object, entry.prompt_leaf)
    assert after.prompted_leaf not in (None, entry.prompted_leaf)
    finish(coordinator)
    assert (passes.tuned, passes.embedded) == ([], [])
    # One for the request, one for the commit, "erased" and "completed".
    assert system.newest().number == before.number + 2 + len(coordinator.recent_deletions())
    assert system.newest().root == fresh(system, name)


def test_a_row_of_the_coreset_is_completed_once_its_cluster_is_tuned_on_the_row_that_moved_in(
    system_of: SystemOf, passes: Passes
) -> None:
    system = system_of("coreset")
    entry = largest(system)
    name = split(system, entry)[0][0]
    coordinator = system.coordinator()
    passes.reset()
    deletion = coordinator.delete(DeletionRequest((name,)))
    coordinator.step()
    assert coordinator.deletion(deletion.id).status == "erased"
    assert same_region(entry, system).prompt_object is None
    assert all(segment.prompted_object is None for segment in same_region(entry, system).segments)
    finish(coordinator)
    assert coordinator.deletion(deletion.id).status == "completed"
    assert (passes.tuned, sum(passes.embedded)) == ([9], entry.rows - 1)
    assert system.newest().root == fresh(system, name)


def test_an_added_row_that_does_not_enter_the_coreset_costs_one_pass(system_of: SystemOf, passes: Passes) -> None:
    system = system_of("coreset")
    entry = largest(system)
    pipeline = system.pipeline()
    table = rows_of(system.store, entry)
    seed = pipeline.config.seed

    def joins(row: Sample) -> bool:
        """Whether the row is the cluster's, and leaves its coreset as it is."""
        added = pipeline.rows([row])
        together = RowTable.concatenate([table, added], 0)
        stays = pipeline.coreset(together).sample_ids == pipeline.coreset(table).sample_ids
        return bool(entry.region.holds(added.anchors_N, added.bits(seed))[0]) and stays

    row = next(row for row in samples(90, 400) if joins(row))
    passes.reset()
    system.ingest([row])
    assert (passes.tuned, passes.embedded) == ([], [1])
    assert same_region(entry, system).prompt_object == entry.prompt_object
    assert system.newest().root == system.fresh_root([*samples(0, 90), row])


@pytest.mark.usefixtures("small_segments")
def test_a_deletion_reads_and_writes_the_touched_segment_only(system_of: SystemOf) -> None:
    system = system_of("coreset", 0)
    system.ingest(samples(0, 90))
    entry = largest(system)
    assert len(entry.segments) > 2
    name = split(system, entry)[1][0]
    touched = next(
        segment
        for segment in entry.segments
        if name in RowTable.from_parquet(system.store.get(segment.rows_object), "").sample_ids
    )
    coordinator = system.coordinator()
    read, written = list[str](), list[str]()
    get, put = LocalStore.get, LocalStore.put

    def reading(self: LocalStore, key: str) -> bytes:
        read.append(key)
        return get(self, key)

    def writing(self: LocalStore, key: str, data: bytes) -> None:
        written.append(key)
        put(self, key, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalStore, "get", reading)
        patch.setattr(LocalStore, "put", writing)
        coordinator.delete(DeletionRequest((name,)))
        finish(coordinator)
    assert {key for key in read if key.endswith(".parquet")} == {touched.rows_object}
    assert len([key for key in written if key.endswith(".parquet")]) == 1
    after = same_region(entry, system)
    assert set(entry.segments) - set(after.segments) == {touched}
    assert system.newest().root == fresh(system, name)


@pytest.mark.slow
@pytest.mark.usefixtures("small_segments")
def test_many_small_ingests_leave_few_segments(system_of: SystemOf) -> None:
    system = system_of("coreset", 0)
    for start in range(0, 60, 2):
        system.ingest(samples(start, start + 2), tuned=start % 8 == 0)
    finish(system.coordinator())
    for entry in system.newest().clusters:
        small = [segment for segment in entry.segments if segment.rows <= 4]
        assert len(small) <= 2, entry
        assert sum(segment.rows for segment in entry.segments) == entry.rows
    assert system.newest().root == system.fresh_root(samples(0, 60))


@pytest.mark.parametrize("most", [1, 3, 512])
def test_how_rows_are_cut_is_not_part_of_the_state(
    system_of: SystemOf, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr("lmeraser.state.segment.MAX_SEGMENT_ROWS", most)
    system = system_of("coreset", 0)
    system.ingest(samples(0, 40))
    sizes = [segment.rows for entry in system.newest().clusters for segment in entry.segments]
    assert (max(sizes) <= most, len(sizes) > len(system.newest().clusters)) == (True, most < 40)
    assert system.newest().root == system.fresh_root(samples(0, 40))


class SlowTunings(InProcessOwners):
    """Tunings end only when the test lets them."""

    through = False

    def finished(self) -> list[TuningResult]:
        return super().finished() if self.through else []


def test_a_tuning_goes_on_while_rows_outside_its_coreset_are_erased(system_of: SystemOf, passes: Passes) -> None:
    system = system_of("coreset")
    entry = largest(system)
    inside, outside = split(system, entry)
    owners = SlowTunings(system.store, system.manifest, system.hash_key, system.pipeline)
    keys = load_signing_key(system.keys)
    coordinator = Coordinator(system.store, system.manifest, system.hash_key, keys, owners, lease_s=0.0)
    first = coordinator.delete(DeletionRequest((inside[0],)))
    while not coordinator.status().running:
        coordinator.step()
    passes.tuned.clear()
    # The row that moves in is one of the others: it must not be deleted here.
    moved_in = set(split(system, same_region(entry, system))[0]) - set(inside)
    deleted = sorted(set(outside) - moved_in)[:3]
    for name in deleted:
        coordinator.delete(DeletionRequest((name,)))
        coordinator.step()
        assert coordinator.status().running == (entry.key,)
    owners.through = True
    finish(coordinator)
    assert passes.tuned == [9]
    assert coordinator.deletion(first.id).status == "completed"
    assert system.newest().root == fresh(system, inside[0], *deleted)


def test_a_tuning_ends_when_a_row_of_its_coreset_is_erased(system_of: SystemOf) -> None:
    system = system_of("coreset")
    entry = largest(system)
    inside, _ = split(system, entry)
    owners = SlowTunings(system.store, system.manifest, system.hash_key, system.pipeline)
    keys = load_signing_key(system.keys)
    coordinator = Coordinator(system.store, system.manifest, system.hash_key, keys, owners, lease_s=0.0)
    coordinator.delete(DeletionRequest((inside[0],)))
    while not coordinator.status().running:
        coordinator.step()
    [job] = list(owners._queue)
    assert isinstance(job, PromptJob)
    coordinator.delete(DeletionRequest((inside[1],)))
    coordinator.step()
    assert job not in owners._queue
    owners.through = True
    finish(coordinator)
    assert not system.store.exists(job.target)
    assert system.newest().root == fresh(system, inside[0], inside[1])
