"""Damaged objects: found by their digest, named, and rebuilt from the rows where possible."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from small_system import System, finish, samples
from stored_rows import bytes_of

from actors.loading import mark_damage
from lmeraser.deletion import DeletionRequest
from lmeraser.errors import LMEraserError, LogError, ObjectCorruptError, ObjectMissingError
from lmeraser.state.cluster_entry import ClusterEntry
from lmeraser.state.layout import index_object
from lmeraser.store import Store, unfenced

SystemOf = Callable[..., System]
Damage = Callable[[Path], None]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def remove(path: Path) -> None:
    path.unlink()


DAMAGES = [flip, truncate, remove]


def file_of(system: System, name: str | None) -> Path:
    assert name is not None
    return Path(system.store.uri) / name


def tuned_entry(system: System) -> ClusterEntry:
    return next(entry for entry in system.newest().clusters if entry.prompt_object is not None)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_prompt_is_tuned_again_at_the_next_start(system_of: SystemOf, damage: Damage) -> None:
    system = system_of()
    before = system.newest()
    entry = tuned_entry(system)
    damage(file_of(system, entry.prompt_object))
    coordinator = system.coordinator()
    assert entry.key in coordinator.status().awaiting
    finish(coordinator)
    after = system.newest()
    assert after.root == before.root
    assert after.number > before.number


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_prompted_features_are_computed_again_under_the_same_prompt(
    system_of: SystemOf, damage: Damage
) -> None:
    system = system_of()
    before = system.newest()
    entry = tuned_entry(system)
    damage(file_of(system, entry.segments[0].prompted_object))
    mark_damage(system.store, ObjectCorruptError("features"))
    coordinator = system.coordinator()
    assert coordinator.status().awaiting == (entry.key,)
    finish(coordinator)
    after = system.newest()
    assert after.root == before.root
    repaired = after.entry(entry.key)
    assert repaired is not None
    assert repaired.prompt_object == entry.prompt_object
    assert repaired.segments != entry.segments


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_index_is_written_again_from_its_rows(system_of: SystemOf, damage: Damage) -> None:
    system = system_of()
    before = system.newest()
    path = file_of(system, index_object(before.clusters[0].segments[0].rows_object))
    index = path.read_bytes()
    damage(path)
    finish(system.coordinator())
    assert path.read_bytes() == index
    assert system.newest().root == before.root


@pytest.mark.parametrize("part", ["heads_object", "sums_object"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_heads_are_summed_and_solved_again(system_of: SystemOf, damage: Damage, part: str) -> None:
    system = system_of()
    before = system.newest()
    damage(file_of(system, getattr(before.heads, part)))
    finish(system.coordinator())
    assert system.newest().root == before.root
    assert getattr(system.newest().heads, part) != getattr(before.heads, part)


def test_prompted_features_that_are_damaged_later_are_not_subtracted(system_of: SystemOf) -> None:
    system = system_of()
    coordinator = system.coordinator()
    entry = tuned_entry(system)
    flip(file_of(system, entry.segments[0].prompted_object))
    ids = [
        row.sample_id
        for row in samples(0, 90)
        if row.sample_id.encode() in bytes_of(system.store, entry) and len(row.sample_id) == 3
    ]
    deletion = coordinator.delete(DeletionRequest(tuple(ids[:1])))
    with pytest.raises(ObjectCorruptError, match="prompted/"):
        finish(coordinator)
    successor = system.coordinator()
    finish(successor)
    assert successor.deletion(deletion.id).status == "completed"
    assert system.newest().root == system.fresh_root([row for row in samples(0, 90) if row.sample_id != ids[0]])


def test_features_that_are_missing_are_noticed_at_the_start(system_of: SystemOf) -> None:
    system = system_of()
    entry = tuned_entry(system)
    remove(file_of(system, entry.segments[0].prompted_object))
    assert system.coordinator().status().awaiting == (entry.key,)


def test_a_start_reads_no_rows_and_no_prompted_features(system_of: SystemOf) -> None:
    system = system_of()
    for segment in (segment for entry in system.newest().clusters for segment in entry.segments):
        file_of(system, segment.rows_object).write_bytes(b"")
        if segment.prompted_object is not None:
            file_of(system, segment.prompted_object).write_bytes(b"")
    assert system.coordinator().status().rows == 90


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_rows_are_named_and_nothing_is_committed(system_of: SystemOf, damage: Damage) -> None:
    system = system_of()
    before = system.newest()
    name = before.clusters[0].segments[0].rows_object
    damage(file_of(system, name))
    mark_damage(system.store, ObjectCorruptError(name))
    with pytest.raises((ObjectCorruptError, ObjectMissingError), match=name):
        system.coordinator()
    assert system.newest() == before


def test_rows_that_are_damaged_later_are_not_copied(system_of: SystemOf) -> None:
    system = system_of()
    coordinator = system.coordinator()
    before = system.newest()
    entry = max(before.clusters, key=lambda entry: entry.rows)
    name = entry.segments[0].rows_object
    path = file_of(system, name)
    data = path.read_bytes()
    row = next(row for row in samples(0, 90) if row.image in data)
    at = data.index(row.image) + 40
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    coordinator.delete(DeletionRequest((row.sample_id,)))
    with pytest.raises(ObjectCorruptError, match=name):
        finish(coordinator)
    assert system.newest() == before


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_log_stops_the_start(system_of: SystemOf, damage: Damage) -> None:
    system = system_of()
    damage(file_of(system, "log/0000000002.json"))
    with pytest.raises(LogError, match="record"):
        system.coordinator()


def test_an_append_that_seemed_to_fail_is_noticed(system_of: SystemOf, monkeypatch: pytest.MonkeyPatch) -> None:
    system = system_of()
    coordinator = system.coordinator()
    put = type(system.store).put_if_absent

    def put_and_fail(self: Store, name: str, data: bytes) -> None:
        put(self, name, data)
        raise ObjectCorruptError("the disk did not say that it had written")

    monkeypatch.setattr(type(system.store), "put_if_absent", put_and_fail)
    with pytest.raises(LMEraserError, match="did not say"):
        coordinator.delete(DeletionRequest(("s3",)))
    monkeypatch.undo()
    with pytest.raises(LogError, match="start again"):
        coordinator.delete(DeletionRequest(("s4",)))
    successor = system.coordinator()
    finish(successor)
    # The first is in the log although its client got an error; the second is not.
    assert system.newest().rows == 89


def test_a_start_names_the_missing_rows_and_says_what_to_do(system_of: SystemOf) -> None:
    system = system_of()
    missing = [entry.segments[0].rows_object for entry in system.newest().clusters[:2]]
    for name in missing:
        system.store.purge(name, unfenced)
    with pytest.raises(ObjectMissingError, match=r"2 of the \d+ objects .* are missing") as caught:
        system.coordinator()
    assert all(name in str(caught.value) for name in missing)
    assert "lmeraser restore" in str(caught.value)
