"""The coordinator with owners in one process: its guarantees for deletion requests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from small_system import System, finish, picture, samples
from stored_rows import rows_of

from actors.ingests import IngestOutcome
from lmeraser.deletion import DeletionRequest
from lmeraser.errors import (
    DuplicateSampleError,
    FencedError,
    IdempotencyConflictError,
    NotReadyError,
    RequestError,
    UnknownDeletionError,
)
from lmeraser.proof.receipts import covers, verify_receipt
from lmeraser.state.commit import Commit
from lmeraser.state.keys import load_signing_key
from lmeraser.state.layout import DATA_FOLDERS

SystemOf = Callable[..., System]
both = pytest.mark.parametrize("medium", ["folder", pytest.param("s3", marks=pytest.mark.slow)])


def objects(commit: Commit) -> dict[str, str | None]:
    return {entry.key: entry.prompt_object for entry in commit.clusters}


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["token", "deep", "pad", "conv"])
def test_after_a_deletion_the_state_is_that_of_the_remaining_rows(system_of: SystemOf, variant: str) -> None:
    system = system_of(variant)
    system.delete("s3", "s40")
    assert system.newest().root == system.fresh_root(
        [row for row in samples(0, 90) if row.sample_id not in ("s3", "s40")]
    )


@both
def test_a_deletion_tunes_its_own_cluster_and_no_other(system_of: SystemOf) -> None:
    system = system_of()
    before = system.newest()
    system.delete("s3")
    after = system.newest()
    deletion = system.coordinator().recent_deletions()[0]
    # The cut may join clusters that became small; every cluster without the row keeps its object.
    untouched = set(objects(before)) - set(deletion.clusters)
    assert untouched
    assert {key: objects(after)[key] for key in untouched} == {key: objects(before)[key] for key in untouched}
    assert system.coordinator().status().awaiting == ()


@both
def test_statuses_come_in_order_and_erased_means_no_specialist(system_of: SystemOf) -> None:
    system = system_of()
    coordinator = system.coordinator()
    accepted = coordinator.delete(DeletionRequest(("s3",)))
    assert (accepted.status, accepted.rows, accepted.erased_at) == ("accepted", 1, None)
    coordinator.step()
    erased = coordinator.deletion(accepted.id)
    assert erased.status == "erased"
    assert erased.completed_at is None
    commit = system.newest()
    assert commit.rows == 89
    untuned = [entry for entry in commit.clusters if entry.prompt_object is None and entry.rows >= 8]
    assert untuned
    finish(coordinator)
    assert coordinator.deletion(accepted.id).status == "completed"
    assert all(entry.prompted_leaf for entry in system.newest().clusters if entry.rows >= 8)


@both
def test_at_erased_no_object_holds_the_row_or_its_ids(system_of: SystemOf) -> None:
    system = system_of()
    row = samples(3, 4)[0]
    coordinator = system.coordinator()
    coordinator.delete(DeletionRequest((row.sample_id,)))
    # Nor does the request hold them in clear before that.
    assert not any(row.sample_id.encode() in system.store.get(name) for name in system.store.names("log/"))
    coordinator.step()
    for name in system.store.names():
        data = system.store.get(name)
        assert row.image not in data, name
    assert system.store.names("requests/") == []
    listed = {name for folder in DATA_FOLDERS for name in system.store.names(folder)}
    assert listed == system.newest().objects()


@both
def test_a_subject_is_deleted_with_all_its_samples(system_of: SystemOf) -> None:
    system = system_of(rows=0)
    rows = [replace(row, subject_id=f"person{number % 5}") for number, row in enumerate(samples(0, 40))]
    system.ingest(rows)
    coordinator = system.coordinator()
    deletion = coordinator.delete(DeletionRequest(subject_ids=("person2", "nobody")))
    assert deletion.rows == 8
    assert deletion.unknown_ids == ("nobody",)
    finish(coordinator)
    assert system.newest().root == system.fresh_root([row for row in rows if row.subject_id != "person2"])


@both
def test_unknown_ids_are_named_and_the_rest_is_deleted(system_of: SystemOf) -> None:
    system = system_of()
    coordinator = system.coordinator()
    deletion = coordinator.delete(DeletionRequest(("s1", "missing")))
    assert (deletion.rows, deletion.unknown_ids) == (1, ("missing",))
    finish(coordinator)
    assert system.newest().rows == 89


@both
def test_a_request_for_nothing_is_refused(system_of: SystemOf) -> None:
    with pytest.raises(RequestError, match="id"):
        system_of().coordinator().delete(DeletionRequest(()))


@both
def test_an_idempotency_key_deletes_once(system_of: SystemOf) -> None:
    coordinator = system_of().coordinator()
    first = coordinator.delete(DeletionRequest(("s1",), idempotency_key="key-1"))
    assert coordinator.delete(DeletionRequest(("s1",), idempotency_key="key-1")).id == first.id
    finish(coordinator)
    assert coordinator.delete(DeletionRequest(("s1",), idempotency_key="key-1")).id == first.id
    assert len(coordinator.recent_deletions()) == 1


@both
def test_an_idempotency_key_with_another_body_is_a_conflict(system_of: SystemOf) -> None:
    coordinator = system_of().coordinator()
    coordinator.delete(DeletionRequest(("s1",), idempotency_key="key-1"))
    with pytest.raises(IdempotencyConflictError):
        coordinator.delete(DeletionRequest(("s2",), idempotency_key="key-1"))


@both
def test_an_idempotency_key_is_remembered_by_the_next_coordinator(system_of: SystemOf) -> None:
    system = system_of()
    first = system.coordinator().delete(DeletionRequest(("s1",), idempotency_key="key-1"))
    again = system.coordinator()
    assert again.delete(DeletionRequest(("s1",), idempotency_key="key-1")).id == first.id
    with pytest.raises(IdempotencyConflictError):
        again.delete(DeletionRequest(("s2",), idempotency_key="key-1"))


@both
def test_a_request_that_was_accepted_survives_its_coordinator(system_of: SystemOf) -> None:
    system = system_of()
    deletion = system.coordinator().delete(DeletionRequest(("s3",)))
    successor = system.coordinator()
    finish(successor)
    assert successor.deletion(deletion.id).status == "completed"
    assert system.newest().root == system.fresh_root([row for row in samples(0, 90) if row.sample_id != "s3"])


@both
def test_an_older_coordinator_is_fenced_off(system_of: SystemOf) -> None:
    system = system_of()
    older = system.coordinator()
    newer = system.coordinator()
    with pytest.raises(FencedError):
        older.delete(DeletionRequest(("s1",)))
    deletion = newer.delete(DeletionRequest(("s2",)))
    finish(newer)
    assert newer.deletion(deletion.id).status == "completed"


@both
def test_requests_that_wait_together_are_erased_by_one_commit_and_share_tunings(system_of: SystemOf) -> None:
    system = system_of()
    coordinator = system.coordinator()
    key = max(system.newest().clusters, key=lambda entry: entry.rows)
    ids = rows_of(system.store, key).sample_ids[:5]
    deletions = [coordinator.delete(DeletionRequest((name,))) for name in ids]
    finish(coordinator)
    assert {coordinator.deletion(deletion.id).status for deletion in deletions} == {"completed"}
    assert coordinator.status().tunings <= 2
    remaining = [row for row in samples(0, 90) if row.sample_id not in ids]
    assert system.newest().root == system.fresh_root(remaining)


@both
def test_a_cluster_can_lose_every_row(system_of: SystemOf) -> None:
    system = system_of()
    entry = system.newest().clusters[0]
    ids = set(rows_of(system.store, entry).sample_ids)
    system.delete(*ids)
    assert system.newest().root == system.fresh_root([row for row in samples(0, 90) if row.sample_id not in ids])


@both
def test_everything_can_be_deleted_and_rows_can_be_ingested_again(system_of: SystemOf) -> None:
    system = system_of()
    system.delete(*(row.sample_id for row in samples(0, 90)))
    assert (system.newest().rows, system.newest().clusters) == (0, ())
    assert system.newest().root == system.fresh_root([])
    system.ingest(samples(200, 230))
    assert system.newest().root == system.fresh_root(samples(200, 230))


@both
def test_rows_that_are_ingested_later_give_the_state_of_one_ingest(system_of: SystemOf) -> None:
    system = system_of()
    system.ingest(samples(90, 120))
    assert system.newest().root == system.fresh_root(samples(0, 120))


@both
def test_a_row_that_the_store_holds_is_skipped_and_the_other_rows_are_added(system_of: SystemOf) -> None:
    system = system_of()
    assert system.ingest(samples(80, 100)) == IngestOutcome(added=10, present=10, erased=0)
    assert system.newest().root == system.fresh_root(samples(0, 100))
    assert system.store.names("incoming/") == []


@both
def test_a_sample_id_that_the_store_holds_with_another_image_is_refused_and_nothing_changes(
    system_of: SystemOf,
) -> None:
    system = system_of()
    before = system.newest()
    with pytest.raises(DuplicateSampleError, match="s89"):
        system.ingest([replace(samples(89, 90)[0], image=picture(90)), *samples(91, 100)])
    assert system.newest() == before
    assert system.store.names("incoming/") == []


@both
def test_erased_rows_are_not_added_again(system_of: SystemOf) -> None:
    system = system_of()
    system.delete("s3")
    assert system.ingest(samples(2, 5)) == IngestOutcome(added=0, present=2, erased=1)
    assert system.newest().rows == 89


@both
def test_deleting_from_a_system_without_rows_is_refused(system_of: SystemOf) -> None:
    with pytest.raises(NotReadyError, match="ingest"):
        system_of(rows=0).coordinator().delete(DeletionRequest(("s1",)))


@both
def test_an_unknown_deletion_is_named(system_of: SystemOf) -> None:
    coordinator = system_of().coordinator()
    with pytest.raises(UnknownDeletionError, match="no-such-id"):
        coordinator.deletion("no-such-id")
    with pytest.raises(UnknownDeletionError, match="no-such-id"):
        coordinator.receipt("no-such-id")


@both
def test_a_receipt_is_signed_at_erased_and_completed_later(system_of: SystemOf) -> None:
    system = system_of()
    coordinator = system.coordinator()
    deletion = coordinator.delete(DeletionRequest(("s3",)))
    with pytest.raises(NotReadyError, match="receipt"):
        coordinator.receipt(deletion.id)
    coordinator.step()
    public_key = load_signing_key(system.keys).public_key()
    erased = coordinator.receipt(deletion.id)
    verify_receipt(erased, public_key)
    assert erased["completed"] is None
    assert covers(erased, system.hash_key, "s3")
    assert not covers(erased, system.hash_key, "s4")
    finish(coordinator)
    completed = coordinator.receipt(deletion.id)
    verify_receipt(completed, public_key)
    assert completed["completed"]["root"] == system.newest().root


@both
def test_the_log_holds_no_id_in_clear(system_of: SystemOf) -> None:
    system = system_of(rows=0)
    rows = [
        replace(row, sample_id=f"secret-{row.sample_id}", subject_id=f"person-{row.sample_id}")
        for row in samples(0, 30)
    ]
    system.ingest(rows)
    system.delete("secret-s3")
    for name in (*system.store.names("log/"), *system.store.names("receipts/")):
        data = system.store.get(name)
        assert b"secret-" not in data, name
        assert b"person-" not in data, name


def test_what_lies_about_is_left_by_a_deletion_elsewhere_and_removed_by_a_sweep_of_everything(
    system_of: SystemOf,
) -> None:
    system = system_of()
    coordinator = system.coordinator()
    names = ["rows/elsewhere/a.parquet", "prompts/elsewhere/b.safetensors"]
    for name in names:
        system.store.put(name, b"anything")
    coordinator.delete(DeletionRequest(("s3",)))
    finish(coordinator)
    assert [name for name in names if system.store.exists(name)] == names
    swept = coordinator.sweep_everything()
    assert not coordinator.idle()
    finish(coordinator)
    assert swept.done() and not any(map(system.store.exists, names))
    assert system.newest().root == system.fresh_root([row for row in samples(0, 90) if row.sample_id != "s3"])
