"""Checkpoints: what a start reads, what leaves the memory, and what happens when one is damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from counted_store import CountedStore
from small_system import System, finish, samples

from actors.checkpoints import opened_history
from lmeraser.deletion import DeletionRequest
from lmeraser.errors import UnknownDeletionError
from lmeraser.hashing import canonical_json
from lmeraser.state.checkpoint import CommitReader, wrong_checkpoints
from lmeraser.state.commit import commits_in
from lmeraser.state.keys import load_signing_key
from lmeraser.state.log import Log
from lmeraser.state.signatures import sign

SystemOf = Callable[..., System]


def records_read(archived: System) -> int:
    store = CountedStore(Path(archived.store.uri))
    log, history = opened_history(store)
    history.replay(log.advance())
    return sum(name.startswith("log/") for name in store.read)


@pytest.mark.slow
def test_a_start_reads_the_newest_checkpoint_and_the_records_after_it(archived: System) -> None:
    before = records_read(archived)
    for number in range(8, 16):
        archived.delete(f"s{number}")
    assert records_read(archived) <= before + 6
    assert len(archived.store.names("checkpoints/")) == 2


def test_a_checkpoint_leads_to_the_commit_that_the_whole_log_leads_to(archived: System) -> None:
    reader = CommitReader(archived.store)
    assert reader.commit is not None
    newest = reader.advance()
    assert newest == archived.newest()
    assert newest is not None and newest.root == archived.fresh_root(samples(8, 24))


def test_archived_deletions_are_still_listed_and_found_with_their_receipts(archived: System) -> None:
    coordinator = archived.coordinator()
    assert len(coordinator.recent_deletions()) < 8
    listed = coordinator.deletions(100).items
    assert [deletion.status for deletion in listed] == ["completed"] * 8
    for deletion in listed:
        assert coordinator.deletion(deletion.id) == deletion
        assert coordinator.receipt(deletion.id)["deletion"] == deletion.id
    assert coordinator.status().archived + len(coordinator.recent_deletions()) == 8


@pytest.mark.parametrize("unknown", ["d1", "../log", "0" * 32])
def test_an_id_that_no_deletion_has_is_unknown(archived: System, unknown: str) -> None:
    with pytest.raises(UnknownDeletionError):
        archived.coordinator().deletion(unknown)


def test_a_row_whose_deletion_was_archived_is_refused_by_a_later_ingest(archived: System) -> None:
    assert archived.ingest(samples(0, 24)).erased == 8


def test_a_repeated_request_gets_the_first_answer_after_checkpoints(archived: System) -> None:
    request = DeletionRequest(("s9", "nobody"), idempotency_key="once")
    first = archived.coordinator().delete(request)
    finish(archived.coordinator())
    archived.delete("s10")
    archived.delete("s11")
    archived.delete("s12")
    again = archived.coordinator().delete(request)
    assert (again.id, again.unknown_ids, again.status) == (first.id, ("nobody",), "completed")


def test_an_old_idempotency_key_is_forgotten(archived: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.checkpoints.IDEMPOTENCY_H", -1)
    request = DeletionRequest(("s9",), idempotency_key="once")
    first = archived.coordinator().delete(request)
    finish(archived.coordinator())
    for number in range(10, 14):
        archived.delete(f"s{number}")
    assert archived.coordinator().delete(request).id != first.id


@pytest.mark.parametrize("fault", ["missing", "cut", "another signature", "another commit"])
def test_a_damaged_checkpoint_is_ignored(archived: System, fault: str) -> None:
    name = archived.store.names("checkpoints/")[-1]
    path = Path(archived.store.uri) / name
    value = json.loads(path.read_bytes())
    if fault == "missing":
        path.unlink()
    elif fault == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    elif fault == "another signature":
        path.write_text(json.dumps({**value, "signature": "00" * 64}))
    else:
        path.write_text(json.dumps({**value, "term": value["term"] + 1}))
    assert CommitReader(archived.store).advance() == archived.newest()
    archived.delete("s9")
    assert archived.newest().root == archived.fresh_root([*samples(8, 9), *samples(10, 24)])


def test_a_checkpoint_of_another_history_is_ignored(archived: System, system_of: SystemOf) -> None:
    other = replace(system_of("minute", 12), keys=archived.keys)
    for name in archived.store.names("checkpoints/"):
        other.store.put(name, archived.store.get(name))
    other.store.put("public/signing-key.pem", archived.store.get("public/signing-key.pem"))
    assert CommitReader(other.store).advance() == other.newest() != archived.newest()


def test_a_checkpoint_is_compared_with_the_records(archived: System) -> None:
    records = Log(archived.store).advance()
    commits = commits_in(records)
    assert list(wrong_checkpoints(archived.store, records, commits)) == []
    older, newer = archived.store.names("checkpoints/")
    value = json.loads(archived.store.get(newer))
    number = value["commit"]["number"]
    commit = {"number": number, "body": next(each for each in reversed(commits) if each.number < number).to_body()}
    archived.store.put(newer, canonical_json(sign({**value, "commit": commit}, load_signing_key(archived.keys))))
    archived.store.put(older, b"{")
    assert [problem.partition(" ")[0] for problem in wrong_checkpoints(archived.store, records, commits)] == [
        f"{older}:",
        newer,
    ]
