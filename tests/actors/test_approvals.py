"""Deletions that wait for approval: who may decide, what survives, and that nothing happens before."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rebuilding import Rebuild
from small_system import System, finish, samples

from actors.coordinator import Coordinator
from actors.incoming import put_rows
from actors.ingests import IngestOutcome
from actors.restoring import restore
from lmeraser.deletion import Deletion, DeletionRequest
from lmeraser.errors import DecidedError, RequestError, SelfApprovalError, StalePreviewError, UnknownDeletionError
from lmeraser.proof.mirror import LogMirror
from lmeraser.state.keys import load_signing_key
from lmeraser.state.log import Log
from lmeraser.store import LocalStore

SystemOf = Callable[..., System]
REQUEST = DeletionRequest(("s3", "nowhere"), ("u7",), by="clerk")


@pytest.fixture
def system(system_of: SystemOf) -> System:
    return system_of("minute", 24)


@pytest.fixture
def coordinator(system: System) -> Coordinator:
    coordinator = system.coordinator()
    coordinator.approvals.require(True)
    finish(coordinator)
    return coordinator


def kinds(system: System) -> list[str]:
    return [record.kind for record in Log(system.store).advance()]


def erased(coordinator: Coordinator, deletion_id: str) -> Deletion:
    while (deletion := coordinator.deletion(deletion_id)).status in ("requested", "accepted"):
        assert coordinator.step()
    return deletion


def ingest(system: System, coordinator: Coordinator, start: int, stop: int) -> IngestOutcome:
    prefix = coordinator.begin_ingest()
    put_rows(system.store, system.hash_key, f"{prefix}rows", system.pipeline().rows(samples(start, stop)), seed=0)
    outcome = coordinator.ingest(prefix)
    finish(coordinator)
    return outcome.result(timeout=0)


def test_a_deletion_waits_until_somebody_else_approves_it(system: System, coordinator: Coordinator) -> None:
    before = system.newest()
    waiting = coordinator.delete(REQUEST)
    assert (waiting.status, waiting.requested_by, waiting.rows, waiting.unknown) == ("requested", "clerk", 2, 1)
    finish(coordinator)
    assert system.newest() == before and coordinator.idle()
    approved = coordinator.approvals.approve(waiting.id, "officer")
    assert (approved.status, approved.decided_by) == ("accepted", "officer")
    done = erased(coordinator, waiting.id)
    assert (done.rows, done.unknown, done.as_previewed) == (2, 1, None)
    assert coordinator.receipt(waiting.id)["accepted_at"] == approved.accepted_at > waiting.accepted_at
    assert system.newest().rows == before.rows - 2
    assert kinds(system).count("approved") == kinds(system).count("policy") == 1


def test_what_is_declined_is_not_carried_out(system: System, coordinator: Coordinator) -> None:
    waiting = coordinator.delete(REQUEST)
    declined = coordinator.approvals.decline(waiting.id, "officer", "not the data subject")
    assert (declined.status, declined.reason, declined.decided_by) == ("declined", "not the data subject", "officer")
    finish(coordinator)
    assert coordinator.deletion(waiting.id).status == "declined"
    with pytest.raises(DecidedError, match="was declined by 'officer'"):
        coordinator.approvals.approve(waiting.id, "another")
    assert coordinator.approvals.decline(coordinator.delete(REQUEST).id, "clerk", "withdrawn").decided_by == "clerk"
    assert system.newest().rows == 24


@pytest.mark.parametrize("name", ["clerk", " clerk ", "CLERK", "Clerk"])
def test_nobody_approves_what_the_same_name_requested(coordinator: Coordinator, system: System, name: str) -> None:
    waiting = coordinator.delete(REQUEST)
    records = len(kinds(system))
    with pytest.raises(SelfApprovalError, match="requested by 'clerk': somebody else must approve it"):
        coordinator.approvals.approve(waiting.id, name)
    assert (len(kinds(system)), coordinator.deletion(waiting.id).status) == (records, "requested")


def test_a_caller_without_a_name_approves_nothing_of_another_without_one(coordinator: Coordinator) -> None:
    waiting = coordinator.delete(replace(REQUEST, by=""))
    with pytest.raises(SelfApprovalError):
        coordinator.approvals.approve(waiting.id, "")


def test_a_deletion_is_decided_once(coordinator: Coordinator, system: System) -> None:
    waiting = coordinator.delete(REQUEST)
    coordinator.approvals.approve(waiting.id, "officer")
    records = len(kinds(system))
    with pytest.raises(DecidedError, match="was approved by 'officer'"):
        coordinator.approvals.approve(waiting.id, "officer")
    with pytest.raises(DecidedError, match="was approved by 'officer'"):
        coordinator.approvals.decline(waiting.id, "another", "too late")
    with pytest.raises(UnknownDeletionError):
        coordinator.approvals.approve("nothing", "officer")
    assert len(kinds(system)) == records


def test_without_the_policy_nothing_waits(system: System) -> None:
    coordinator = system.coordinator()
    accepted = coordinator.delete(REQUEST)
    assert accepted.status == "accepted"
    with pytest.raises(DecidedError, match="needs no approval"):
        coordinator.approvals.approve(accepted.id, "officer")


def test_a_policy_holds_until_it_is_changed_and_is_recorded_when_it_is(
    system: System, coordinator: Coordinator
) -> None:
    coordinator.approvals.require(True)
    assert kinds(system).count("policy") == 1
    coordinator = system.coordinator()
    assert coordinator.delete(REQUEST).status == "requested"
    coordinator.approvals.require(False)
    assert coordinator.delete(REQUEST).status == "accepted"
    assert kinds(system).count("policy") == 2


@pytest.mark.parametrize("reason", ["", "  ", "x" * 1001, "\ud800"])
def test_a_deletion_is_declined_with_a_reason(coordinator: Coordinator, reason: str) -> None:
    waiting = coordinator.delete(REQUEST)
    with pytest.raises(RequestError, match="allowed is Unicode text of 1 to 1000 characters"):
        coordinator.approvals.decline(waiting.id, "officer", reason)
    assert coordinator.deletion(waiting.id).status == "requested"


def test_rows_of_what_waits_can_be_ingested_and_are_erased_once_it_is_approved(
    system: System, coordinator: Coordinator
) -> None:
    waiting = coordinator.delete(DeletionRequest(("s30", "s3"), by="clerk"))
    assert ingest(system, coordinator, 30, 31) == IngestOutcome(added=1, present=0, erased=0)
    coordinator.approvals.approve(waiting.id, "officer")
    assert (erased(coordinator, waiting.id).rows, coordinator.deletion(waiting.id).unknown) == (2, 0)
    finish(coordinator)
    assert ingest(system, coordinator, 30, 31) == IngestOutcome(added=0, present=0, erased=1)


def test_what_was_declined_keeps_no_row_out(system: System, coordinator: Coordinator) -> None:
    waiting = coordinator.delete(DeletionRequest(("s30",), by="clerk"))
    coordinator.approvals.decline(waiting.id, "officer", "a mistake")
    assert ingest(system, coordinator, 30, 31).added == 1


def test_the_approver_previews_and_gets_exactly_that(coordinator: Coordinator) -> None:
    waiting = coordinator.delete(REQUEST)
    preview = coordinator.previews.preview_of(waiting.id, with_ids=True)
    assert (preview.rows, preview.unknown, preview.unknown_ids, preview.sample_ids) == (2, 1, (), ("s3", "s7"))
    coordinator.approvals.approve(waiting.id, "officer", preview.token)
    assert erased(coordinator, waiting.id).as_previewed
    assert coordinator.receipt(waiting.id)["after"]["root"] == preview.root


def test_a_stale_preview_approves_nothing(coordinator: Coordinator, system: System) -> None:
    first, second = coordinator.delete(REQUEST), coordinator.delete(DeletionRequest(("s9",), by="clerk"))
    previews = [coordinator.previews.preview_of(each.id) for each in (first, second)]
    with pytest.raises(RequestError, match="of other ids"):
        coordinator.approvals.approve(first.id, "officer", previews[1].token)
    coordinator.approvals.approve(second.id, "officer", previews[1].token)
    finish(coordinator)
    records = len(kinds(system))
    with pytest.raises(StalePreviewError):
        coordinator.approvals.approve(first.id, "officer", previews[0].token)
    assert (coordinator.deletion(first.id).status, len(kinds(system))) == ("requested", records)
    coordinator.approvals.approve(first.id, "officer", coordinator.previews.preview_of(first.id).token)
    assert erased(coordinator, first.id).as_previewed


def test_the_preview_of_the_request_binds_its_approval(coordinator: Coordinator) -> None:
    preview = coordinator.previews.preview(REQUEST)
    bound = replace(REQUEST, preview=preview.token)
    first, second = coordinator.delete(bound), coordinator.delete(replace(bound, by="another clerk"))
    coordinator.approvals.approve(first.id, "officer")
    assert erased(coordinator, first.id).as_previewed
    finish(coordinator)
    with pytest.raises(StalePreviewError):
        coordinator.approvals.approve(second.id, "officer")
    again = coordinator.previews.preview_of(second.id)
    assert (again.rows, again.unknown) == (0, 1)
    coordinator.approvals.approve(second.id, "officer", again.token)
    assert erased(coordinator, second.id).as_previewed


def test_only_what_waits_is_previewed_by_its_id(coordinator: Coordinator) -> None:
    waiting = coordinator.delete(REQUEST)
    coordinator.approvals.approve(waiting.id, "officer")
    with pytest.raises(DecidedError, match="is accepted"):
        coordinator.previews.preview_of(waiting.id)


def test_waiting_requests_survive_restarts_and_checkpoints(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.checkpoints.MAX_COMMITS", 1)
    coordinator = system.coordinator()
    coordinator.approvals.require(True)
    waiting, declined = coordinator.delete(REQUEST), coordinator.delete(replace(REQUEST, by="x"))
    coordinator.approvals.decline(declined.id, "officer", "twice")
    for number in (9, 10, 11):
        other = coordinator.delete(DeletionRequest((f"s{number}",), by="clerk"))
        coordinator.approvals.approve(other.id, "officer")
        finish(coordinator)
        coordinator = system.coordinator()
    assert coordinator.status().since_checkpoint < len(kinds(system))
    assert coordinator.deletion(waiting.id).status == "requested"
    assert coordinator.deletion(declined.id).reason == "twice"
    assert coordinator.delete(REQUEST).status == "requested"
    coordinator.approvals.approve(waiting.id, "officer")
    assert erased(system.coordinator(), waiting.id).rows == 2


def test_waiting_requests_survive_the_switch_to_another_generation(system: System, coordinator: Coordinator) -> None:
    waiting = coordinator.delete(REQUEST)
    config = system.manifest.config
    rebuild = Rebuild(system, replace(config, labels=(*config.labels, "white")))
    rebuild.begin(coordinator)
    during = coordinator.delete(DeletionRequest(("s9",), by="clerk"))
    coordinator = rebuild.finish(coordinator)
    for each in (waiting, during):
        coordinator.approvals.approve(each.id, "officer")
        assert erased(coordinator, each.id).rows
    finish(coordinator)
    left = [row for row in samples(0, 24) if row.sample_id not in ("s3", "s7", "s9")]
    assert system.newest().root == system.fresh_root(left)


def test_a_restore_erases_what_was_approved_and_lets_the_rest_wait(
    system: System, coordinator: Coordinator, tmp_path: Path
) -> None:
    shutil.copytree(system.store.uri, tmp_path / "copy")
    approved, waiting, declined = (
        coordinator.delete(DeletionRequest((f"s{number}",), by="clerk")) for number in (3, 4, 5)
    )
    coordinator.approvals.approve(approved.id, "officer")
    coordinator.approvals.decline(declined.id, "officer", "no")
    finish(coordinator)
    mirror = LogMirror(system.store, LocalStore(tmp_path / "mirror"))
    mirror.copy()
    copy = replace(system, store=LocalStore(tmp_path / "copy"))
    result = restore(copy.store, LocalStore(tmp_path / "mirror"), copy.hash_key, load_signing_key(copy.keys))
    assert (result.erased, result.rows) == (1, 23)
    restored = copy.coordinator()
    assert [restored.deletion(each.id).status for each in (waiting, declined)] == ["requested", "declined"]
    restored.approvals.approve(waiting.id, "officer")
    finish(restored)
    left = [row for row in samples(0, 24) if row.sample_id not in ("s3", "s4")]
    assert copy.newest().root == copy.fresh_root(left)
