"""Checkpoints: what a start reads, what leaves the memory, and what happens when one is damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from counted_store import CountedStore
from small_system import System, samples

from actors.checkpoints import opened_history
from actors.coordinator import Coordinator
from lmeraser.deletion import DeletionRequest
from lmeraser.errors import UnknownDeletionError
from lmeraser.hashing import canonical_json
from lmeraser.state.checkpoint import CommitReader, wrong_checkpoints
from lmeraser.state.commit import commits_in
from lmeraser.state.keys import load_signing_key
from lmeraser.state.log import Log
from lmeraser.state.signatures import sign

SystemOf = Callable[..., System]


@pytest.fixture
def system(system_of: SystemOf, monkeypatch: pytest.MonkeyPatch) -> System:
    """A store in which s0 to s7 were deleted one after another, with a checkpoint after every other commit."""
    monkeypatch.setattr("actors.checkpoints.MAX_COMMITS", 2)
    system = system_of("minute", 24)
    for number in range(8):
        system.delete(f"s{number}")
    return system


def records_read(system: System) -> int:
    store = CountedStore(Path(system.store.uri))
    log, history = opened_history(store)
    history.replay(log.advance())
    return sum(name.startswith("log/") for name in store.read)


def finish(coordinator: Coordinator) -> Coordinator:
    while not coordinator.idle():
        coordinator.step()
    return coordinator


def test_a_start_reads_the_newest_checkpoint_and_the_records_after_it(system: System) -> None:
    before = records_read(system)
    for number in range(8, 16):
        system.delete(f"s{number}")
    assert records_read(system) <= before + 6
    assert len(system.store.names("checkpoints/")) == 2


def test_a_checkpoint_leads_to_the_commit_that_the_whole_log_leads_to(system: System) -> None:
    reader = CommitReader(system.store)
    assert reader.commit is not None
    newest = reader.advance()
    assert newest == system.newest()
    assert newest is not None and newest.root == system.fresh_root(samples(8, 24))


def test_archived_deletions_are_still_listed_and_found_with_their_receipts(system: System) -> None:
    coordinator = system.coordinator()
    assert len(coordinator.recent_deletions()) < 8
    listed = coordinator.deletions(100).items
    assert [deletion.status for deletion in listed] == ["completed"] * 8
    for deletion in listed:
        assert coordinator.deletion(deletion.id) == deletion
        assert coordinator.receipt(deletion.id)["deletion"] == deletion.id
    assert coordinator.status().archived + len(coordinator.recent_deletions()) == 8


@pytest.mark.parametrize("unknown", ["d1", "../log", "0" * 32])
def test_an_id_that_no_deletion_has_is_unknown(system: System, unknown: str) -> None:
    with pytest.raises(UnknownDeletionError):
        system.coordinator().deletion(unknown)


def test_a_row_whose_deletion_was_archived_is_refused_by_a_later_ingest(system: System) -> None:
    assert system.ingest(samples(0, 24)).erased == 8


def test_a_repeated_request_gets_the_first_answer_after_checkpoints(system: System) -> None:
    request = DeletionRequest(("s9", "nobody"), idempotency_key="once")
    first = finish(system.coordinator()).delete(request)
    finish(system.coordinator())
    system.delete("s10")
    system.delete("s11")
    system.delete("s12")
    again = system.coordinator().delete(request)
    assert (again.id, again.unknown_ids, again.status) == (first.id, ("nobody",), "completed")


def test_an_old_idempotency_key_is_forgotten(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.checkpoints.IDEMPOTENCY_H", -1)
    request = DeletionRequest(("s9",), idempotency_key="once")
    first = system.coordinator().delete(request)
    finish(system.coordinator())
    for number in range(10, 14):
        system.delete(f"s{number}")
    assert system.coordinator().delete(request).id != first.id


@pytest.mark.parametrize("fault", ["missing", "cut", "another signature", "another commit"])
def test_a_damaged_checkpoint_is_ignored(system: System, fault: str) -> None:
    name = system.store.names("checkpoints/")[-1]
    path = Path(system.store.uri) / name
    value = json.loads(path.read_bytes())
    if fault == "missing":
        path.unlink()
    elif fault == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    elif fault == "another signature":
        path.write_text(json.dumps({**value, "signature": "00" * 64}))
    else:
        path.write_text(json.dumps({**value, "term": value["term"] + 1}))
    assert CommitReader(system.store).advance() == system.newest()
    system.delete("s9")
    assert system.newest().root == system.fresh_root([*samples(8, 9), *samples(10, 24)])


def test_a_checkpoint_of_another_history_is_ignored(system: System, system_of: SystemOf) -> None:
    other = replace(system_of("minute", 12), keys=system.keys)
    for name in system.store.names("checkpoints/"):
        other.store.put(name, system.store.get(name))
    other.store.put("public/signing-key.pem", system.store.get("public/signing-key.pem"))
    assert CommitReader(other.store).advance() == other.newest() != system.newest()


def test_a_checkpoint_is_compared_with_the_records(system: System) -> None:
    records = Log(system.store).advance()
    assert list(wrong_checkpoints(system.store, records)) == []
    older, newer = system.store.names("checkpoints/")
    value = json.loads(system.store.get(newer))
    number = value["commit"]["number"]
    commit = {"number": number, "body": commits_in(records[: number - 1])[-1].to_body()}
    system.store.put(newer, canonical_json(sign({**value, "commit": commit}, load_signing_key(system.keys))))
    system.store.put(older, b"{")
    assert [problem.partition(" ")[0] for problem in wrong_checkpoints(system.store, records)] == [f"{older}:", newer]
