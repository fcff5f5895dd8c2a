"""A replaced coordinator stays replaced, regardless of how it noticed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_system import System, finish, samples

from actors.coordinator import Coordinator
from actors.incoming import put_rows
from actors.jobs import TuningJob
from actors.journal import Journal
from actors.owners import InProcessOwners, TuningResult
from lmeraser.deletion import DeletionRequest
from lmeraser.errors import FencedError
from lmeraser.state.keys import load_signing_key
from lmeraser.state.log import Log
from lmeraser.store import LocalStore

SystemOf = Callable[..., System]


class ReadyTunings(InProcessOwners):
    """Tunings end at once, and their results are held back until the test releases them."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.through = False
        self.ready: list[TuningResult] = []

    def start_tuning(self, job: TuningJob) -> None:
        super().start_tuning(job)
        self.ready += super().finished()

    def stop_tuning(self, unwanted: Callable[[TuningJob], bool]) -> list[TuningJob]:  # noqa: ARG002
        """Too late for those."""
        return []

    def finished(self) -> list[TuningResult]:
        if not self.through:
            return []
        results, self.ready = self.ready, []
        return results


def test_a_refused_journal_stays_refused(tmp_path: Path) -> None:
    older, newer = Journal(LocalStore(tmp_path)), Journal(LocalStore(tmp_path))
    older.open_term()
    newer.open_term()
    for refused in (lambda: older.append("term", {}), older.check, older.heed, lambda: older.position):
        for _ in range(2):
            with pytest.raises(FencedError, match="term 2 has taken over from term 1"):
                refused()
    assert [record.term for record in Log(LocalStore(tmp_path)).advance()] == [1, 2]


def test_a_coordinator_whose_request_was_refused_accepts_none_and_ends(system_of: SystemOf) -> None:
    system = system_of("minute", 12)
    older, newer = system.coordinator(), system.coordinator()
    for _ in range(2):
        with pytest.raises(FencedError):
            older.delete(DeletionRequest(("s3",)))
    with pytest.raises(FencedError):
        older.step()
    newer.delete(DeletionRequest(("s4",)))
    while not newer.idle():
        newer.step()
    assert system.newest().rows == 11
    assert newer.status().rows == 11


def test_a_coordinator_whose_incoming_rows_were_swept_does_not_say_that_there_was_nothing_to_add(
    system_of: SystemOf,
) -> None:
    system = system_of("minute", 6)
    older = system.coordinator()
    prefix = older.begin_ingest()
    put_rows(
        system.store,
        system.hash_key,
        f"{prefix}rows",
        system.pipeline().rows(samples(6, 8)),
        seed=system.manifest.config.seed,
    )
    outcome = older.ingest(prefix)
    system.coordinator()
    with pytest.raises(FencedError):
        older.step()
    assert not outcome.done()


def test_the_tuning_of_a_cluster_that_was_regrouped_and_exists_again_is_not_used(system_of: SystemOf) -> None:
    system = system_of("minute", 9)
    owners = ReadyTunings(system.store, system.manifest, system.hash_key, system.pipeline)
    signing_key = load_signing_key(system.keys)
    coordinator = Coordinator(system.store, system.manifest, system.hash_key, signing_key, owners, lease_s=0.0)
    coordinator.delete(DeletionRequest(("s3", "s4", "s5")))
    for _ in range(20):
        coordinator.step()
    assert coordinator.status().running
    prefix = coordinator.begin_ingest()
    put_rows(
        system.store,
        system.hash_key,
        f"{prefix}rows",
        system.pipeline().rows(samples(9, 12)),
        seed=system.manifest.config.seed,
    )
    coordinator.ingest(prefix)
    coordinator.step()
    coordinator.delete(DeletionRequest(("s9", "s10", "s11")))
    coordinator.step()
    owners.through = True
    while not coordinator.idle():
        coordinator.step()
    assert system.newest().root == system.fresh_root([*samples(0, 3), *samples(6, 9)])


class LateStore(LocalStore):
    """Before it writes the first receipt, something else happens: its process was frozen there."""

    happens: Callable[[], None] | None = None

    def put(self, name: str, data: bytes) -> None:
        if name.startswith("receipts/") and self.happens is not None:
            happens, self.happens = self.happens, None
            happens()
        super().put(name, data)


def test_a_receipt_that_a_replaced_coordinator_writes_late_is_not_the_one_that_counts(system_of: SystemOf) -> None:
    system = system_of("minute", 24)
    store = LateStore(Path(system.store.uri))
    first = replace(system, store=store).coordinator()
    deletion = first.delete(DeletionRequest(("s3",)))
    store.happens = lambda: finish(system.coordinator())
    with pytest.raises(FencedError):
        finish(first)
    successor = system.coordinator()
    assert successor.deletion(deletion.id).status == "completed"
    assert successor.receipt(deletion.id)["completed"] is not None
    # No record names the late receipt, and it is removed.
    assert len(system.store.names("receipts/")) == 2
