"""An older copy of a store and a newer log: rows that were deleted since are not restored."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from small_system import System, samples
from stored_rows import rows_of

from actors import restoring
from actors.coordinator import Coordinator
from actors.incoming import put_rows
from actors.ingests import IngestOutcome
from actors.owner import Owner
from actors.restoring import RestoreResult, restore
from actors.sweep import Sweeper
from lmeraser.deletion import DeletionRequest
from lmeraser.errors import (
    LogError,
    StoreFormatError,
    UnfinishedRestoreError,
)
from lmeraser.proof.mirror import LogMirror
from lmeraser.proof.receipts import covers, verify_receipt
from lmeraser.proof.residue import scan
from lmeraser.state.keys import load_signing_key
from lmeraser.state.layout import RESTORING
from lmeraser.state.log import Log
from lmeraser.store import LocalStore

SystemOf = Callable[..., System]
ALL = samples(0, 24)


@pytest.fixture
def system(system_of: SystemOf) -> System:
    return system_of("minute", 24)


def copied(system: System, folder: Path) -> System:
    shutil.copytree(system.store.uri, folder)
    return replace(system, store=LocalStore(folder))


def mirrored(system: System, folder: Path) -> LocalStore:
    mirror = LocalStore(folder)
    LogMirror(system.store, mirror).copy()
    return mirror


def restored(copy: System, mirror: LocalStore) -> RestoreResult:
    return restore(copy.store, mirror, copy.hash_key, load_signing_key(copy.keys))


def delete(system: System, samples: list[str], subjects: list[str] = [], steps: int | None = None) -> str:  # noqa: B006
    coordinator = system.coordinator()
    deletion = coordinator.delete(DeletionRequest(tuple(samples), tuple(subjects))).id
    while not coordinator.idle() and steps != 0:
        coordinator.step()
        steps = None if steps is None else steps - 1
    return deletion


def without(*deleted: str) -> list[str]:
    return [row.sample_id for row in ALL if row.sample_id not in deleted]


def stored_ids(system: System) -> list[str]:
    entries = system.newest().clusters
    tables = [rows_of(system.store, entry) for entry in entries]
    return sorted((name for table in tables for name in table.sample_ids), key=lambda name: int(name[1:]))


def finished(system: System) -> None:
    coordinator = system.coordinator()
    while not coordinator.idle():
        coordinator.step()


def test_rows_that_were_deleted_after_the_copy_are_not_restored(system: System, tmp_path: Path) -> None:
    before = delete(system, ["s1"])
    copy = copied(system, tmp_path / "copy")
    later = [delete(system, ["s3", "s4"]), delete(system, [], ["u10"])]
    mirror = mirrored(system, tmp_path / "mirror")
    records = Log(mirror).advance()
    shutil.rmtree(system.store.uri)
    outcome = restored(copy, mirror)
    assert (outcome.erased, outcome.rows, outcome.rows_then) == (3, 20, 20)
    assert stored_ids(copy) == without("s1", "s3", "s4", "s10")
    # The restored log is the newer one, and what the restore added.
    log = Log(copy.store).advance()
    assert log[: len(records)] == records
    assert [record.kind for record in log[len(records) :]] == ["term", "request", "commit", "erased"]
    assert not copy.store.exists(RESTORING)
    finished(copy)
    assert copy.newest().root == copy.fresh_root([row for row in ALL if row.sample_id in stored_ids(copy)])
    assert copy.newest().root == Log(mirror).record(max(r.number for r in records if r.kind == "commit")).body["root"]
    key = load_signing_key(copy.keys).public_key()
    coordinator = copy.coordinator()
    for deletion in (before, *later, *outcome.deletions):
        verify_receipt(coordinator.receipt(deletion), key)
        assert coordinator.deletion(deletion).status == "completed"
    assert all(covers(coordinator.receipt(outcome.deletions[0]), copy.hash_key, name) for name in ("s3", "s4", "s10"))
    assert scan(copy.store, copy.hash_key, [], ["s3", "s4", "s10", "u10"], [ALL[3].image, ALL[10].image]).clean


def test_erased_rows_are_left_out_afterwards_and_later_rows_are_counted_as_missing(
    system: System, tmp_path: Path
) -> None:
    copy = copied(system, tmp_path / "copy")
    delete(system, ["s3"])
    system.ingest(samples(30, 34))
    outcome = restored(copy, mirrored(system, tmp_path / "mirror"))
    assert (outcome.rows, outcome.rows_then) == (23, 27)
    assert copy.ingest(samples(3, 4)) == IngestOutcome(added=0, present=0, erased=1)
    copy.ingest(samples(30, 34))
    assert copy.newest().root == system.newest().root


def test_a_copy_from_which_nothing_was_deleted_is_committed_again(system: System, tmp_path: Path) -> None:
    copy = copied(system, tmp_path / "copy")
    root = system.newest().root
    system.ingest(samples(30, 34))
    outcome = restored(copy, mirrored(system, tmp_path / "mirror"))
    assert (outcome.erased, outcome.deletions, outcome.state_root) == (0, (), root)
    finished(copy)
    assert stored_ids(copy) == without() and copy.newest().root == root


@pytest.mark.parametrize("steps", [0, 1])
def test_requests_that_were_pending_in_the_newer_log_are_carried_out(
    system: System, tmp_path: Path, steps: int
) -> None:
    copy = copied(system, tmp_path / "copy")
    delete(system, ["s5"])
    pending = delete(system, ["s3"], steps=steps)
    outcome = restored(copy, mirrored(system, tmp_path / "mirror"))
    assert stored_ids(copy) == without("s3", "s5") and outcome.erased == 2
    finished(copy)
    assert copy.coordinator_says(pending) == "completed"
    assert copy.newest().root == copy.fresh_root([row for row in ALL if row.sample_id in stored_ids(copy)])


def test_a_row_that_was_erased_and_ingested_again_before_the_copy_stays(system: System, tmp_path: Path) -> None:
    delete(system, ["s3"])
    coordinator = system.coordinator()
    prefix = coordinator.begin_ingest()
    put_rows(
        system.store,
        system.hash_key,
        f"{prefix}rows",
        system.pipeline().rows(samples(3, 4)),
        seed=system.manifest.config.seed,
    )
    future = coordinator.ingest(prefix, force=True)
    while not coordinator.idle():
        coordinator.step()
    assert future.result(timeout=0).added == 1
    copy = copied(system, tmp_path / "copy")
    delete(system, ["s4"])
    restored(copy, mirrored(system, tmp_path / "mirror"))
    assert stored_ids(copy) == without("s4")


def test_an_interrupted_restore_cannot_be_opened_until_it_is_finished(
    system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = copied(system, tmp_path / "copy")
    delete(system, ["s3"])
    mirror = mirrored(system, tmp_path / "mirror")
    breaks: list[tuple[object, str]] = [
        (restoring, "copy_record"),
        (Coordinator, "delete_again"),
        (Owner, "write_rows"),
        (Sweeper, "sweep"),
    ]
    for target, name in breaks:
        with monkeypatch.context() as patch:
            patch.setattr(target, name, _dies)
            with pytest.raises(KeyboardInterrupt):
                restored(copy, mirror)
        with pytest.raises(UnfinishedRestoreError, match="lmeraser restore"):
            copy.coordinator()
    restored(copy, mirror)
    assert stored_ids(copy) == without("s3")
    finished(copy)
    assert copy.newest().root == system.newest().root


def _dies(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_log_that_is_not_newer_changes_nothing(system: System, tmp_path: Path) -> None:
    delete(system, ["s3"])
    mirror = mirrored(system, tmp_path / "mirror")
    head = Log(system.store).advance()[-1]
    assert restored(system, mirror).records == 0
    assert Log(system.store).advance()[-1] == head
    system.coordinator()


def test_mirrors_of_other_stores_and_of_other_histories_are_refused(
    system: System, system_of: SystemOf, tmp_path: Path
) -> None:
    copy = copied(system, tmp_path / "copy")
    mirror = mirrored(system, tmp_path / "mirror")
    delete(system, ["s3"])
    delete(copy, ["s4"])
    assert LogMirror(system.store, mirror).copy().added > 0
    for act in (lambda: restored(copy, mirror), lambda: LogMirror(copy.store, mirror)):
        with pytest.raises(LogError, match=r"the two logs (part|diverge) at record"):
            act()
    with pytest.raises(StoreFormatError, match="another store"):
        LogMirror(system_of("token").store, mirror)
    with pytest.raises(StoreFormatError, match="not a mirror"):
        restored(copy, LocalStore(tmp_path / "nowhere"))


@pytest.mark.parametrize("starts", [1, 4])
@pytest.mark.parametrize("broken_off", [False, True])
def test_a_copy_that_was_only_opened_can_still_be_restored(
    system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, starts: int, broken_off: bool
) -> None:
    copy = copied(system, tmp_path / "copy")
    delete(system, ["s3"])
    mirror = mirrored(system, tmp_path / "mirror")
    for _ in range(starts):
        copy.coordinator()
    assert [record.kind for record in Log(copy.store).advance()][-starts:] == ["term"] * starts
    if broken_off:
        with monkeypatch.context() as patch:
            purged: list[str] = []

            def purge(self: LocalStore, name: str, fence: object) -> None:  # noqa: ARG001
                if purged:
                    raise KeyboardInterrupt
                purged.append(name)
                (Path(self.uri) / name).unlink()

            patch.setattr(LocalStore, "purge", purge)
            with pytest.raises(KeyboardInterrupt):
                restored(copy, mirror)
    outcome = restored(copy, mirror)
    assert (outcome.erased, stored_ids(copy)) == (1, without("s3"))
    records = Log(mirror).advance()
    assert Log(copy.store).advance()[: len(records)] == records


def test_a_copy_that_was_changed_is_refused_and_a_fresh_one_requested(system: System, tmp_path: Path) -> None:
    copy = copied(system, tmp_path / "copy")
    delete(system, ["s3"])
    mirror = mirrored(system, tmp_path / "mirror")
    delete(copy, ["s4"])
    before = {name: copy.store.get(name) for name in copy.store.names()}
    with pytest.raises(LogError, match=r"was opened at .* without a restore.*Take a fresh copy"):
        restored(copy, mirror)
    assert {name: copy.store.get(name) for name in copy.store.names()} == before


def test_an_older_copy_is_not_mirrored_over_a_newer_log(system: System, tmp_path: Path) -> None:
    copy = copied(system, tmp_path / "copy")
    delete(system, ["s3"])
    mirror = mirrored(system, tmp_path / "mirror")
    with pytest.raises(LogError, match="must be restored"):
        LogMirror(copy.store, mirror)


def test_a_mirror_holds_no_id_in_clear_and_nothing_serves_it(system: System, tmp_path: Path) -> None:
    delete(system, ["s3"], ["u10"])
    mirror = mirrored(system, tmp_path / "mirror")
    text = b"".join(mirror.get(name) for name in mirror.names())
    assert b'"s3"' not in text and b'"u10"' not in text
    assert {name.partition("/")[0] for name in mirror.names()} == {"log", "receipts", "mirror.json"}
    with pytest.raises(StoreFormatError):
        replace(system, store=mirror).coordinator()
