"""Any error in an owner fails only its job: the coordinator continues, and a restart forgets no attempt."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_system import System, samples
from stored_rows import rows_of
from until import FIRST_PAUSE_S, until

from actors import backlog
from actors.coordinator import Coordinator
from actors.jobs import PromptJob, RowsJob, WrittenRows
from actors.owner import Owner
from actors.owners import InProcessOwners
from actors.planner import ATTEMPTS
from actors.restoring import restore
from actors.segment_access import SegmentAccess
from lmeraser.deletion import DeletionRequest
from lmeraser.errors import OwnerFailedError
from lmeraser.proof.mirror import LogMirror
from lmeraser.proof.receipts import verify_receipt
from lmeraser.state.cluster_entry import ClusterEntry, Segment
from lmeraser.state.keys import load_signing_key
from lmeraser.state.log import Log
from lmeraser.state.pipeline import Pipeline
from lmeraser.state.rows import RowTable
from lmeraser.store import LocalStore

SystemOf = Callable[..., System]
SCRIPT = Path(__file__).parent.parent / "support" / "failing_owners.py"
ERRORS: dict[str, tuple[Any, ...]] = {
    "OutOfMemoryError: CUDA out of memory.": (torch.OutOfMemoryError, "CUDA out of memory.\nTried to allocate 2 GiB."),
    "RuntimeError: CUDA error: an illegal memory access": (RuntimeError, "CUDA error: an illegal memory access"),
    "LinAlgError: Eigenvalues did not converge": (np.linalg.LinAlgError, "Eigenvalues did not converge"),
    "MemoryError": (MemoryError,),
    "ImportError: libcudnn.so.9: cannot open": (ImportError, "libcudnn.so.9: cannot open"),
    # The key may be an id, and reasons are written to the log.
    "KeyError": (KeyError, "s3"),
}
each_error = pytest.mark.parametrize("reason", ERRORS)


@dataclass
class Broken:
    """What fails: tunings of these clusters, or reads of these row objects."""

    system: System
    tunings: set[str] = field(default_factory=set)
    writes: set[str] = field(default_factory=set)
    reason: str = "MemoryError"
    tuned: int = 0

    def error(self) -> Exception:
        kind, *arguments = ERRORS[self.reason]
        error: Exception = kind(*arguments)
        return error

    def coordinator(self) -> Coordinator:
        system = self.system
        owners = InProcessOwners(system.store, system.manifest, system.hash_key, system.pipeline)
        return Coordinator(system.store, system.manifest, system.hash_key, load_signing_key(system.keys), owners, 0.0)


@pytest.fixture
def broken(system_of: SystemOf, monkeypatch: pytest.MonkeyPatch) -> Broken:
    monkeypatch.setattr("actors.planner.MIN_BACKOFF_S", 0.0)
    monkeypatch.setattr(backlog, "MIN_BACKOFF_S", 0.1)
    monkeypatch.setattr(backlog, "LONGEST_PAUSE_S", 0.1)
    made = Broken(system_of())
    read, coreset, tuned = SegmentAccess.table, Owner._coreset, Pipeline.tuned_prompt
    tuning: list[str] = []

    def reading(self: SegmentAccess, segment: Segment) -> RowTable:
        if segment.rows_object in made.writes:
            raise made.error()
        return read(self, segment)

    def choosing(self: Owner, job: PromptJob) -> RowTable:
        tuning[:] = [job.key]
        return coreset(self, job)

    def tunes(self: Pipeline, *arguments: Any) -> np.ndarray:
        if tuning[0] in made.tunings:
            made.tuned += 1
            raise made.error()
        return tuned(self, *arguments)

    monkeypatch.setattr(SegmentAccess, "table", reading)
    monkeypatch.setattr(Owner, "_coreset", choosing)
    monkeypatch.setattr(Pipeline, "tuned_prompt", tunes)
    return made


def largest(system: System) -> list[tuple[ClusterEntry, str]]:
    """The largest clusters, each with one of the samples of its coreset, so that it is tuned when that is deleted."""
    entries = sorted(system.newest().clusters, key=lambda entry: -entry.rows)
    pipeline = system.pipeline()
    return [(entry, pipeline.coreset(rows_of(system.store, entry)).sample_ids[0]) for entry in entries]


def rows_objects(*entries: ClusterEntry) -> set[str]:
    return {segment.rows_object for entry in entries for segment in entry.segments}


def untuned(system: System) -> set[str]:
    """Keys of the clusters without a prompt."""
    return {entry.key for entry in system.newest().clusters if entry.prompt_object is None}


def work(coordinator: Coordinator, most: int = 200) -> None:
    while most and coordinator.step():
        most -= 1
    assert most


def stepped(coordinator: Coordinator, done: Callable[[], bool]) -> None:
    def step() -> bool | None:
        coordinator.step()
        return done() or None

    until(step, 60, longest_pause_s=FIRST_PAUSE_S)


def fresh(system: System, *deleted: str) -> str:
    return system.fresh_root([row for row in samples(0, 90) if row.sample_id not in deleted])


@each_error
def test_a_tuning_that_fails_for_any_reason_is_given_up_with_that_reason(broken: Broken, reason: str) -> None:
    system, coordinator = broken.system, broken.coordinator()
    broken.reason = reason
    (_, bad), (_, good) = largest(system)[:2]
    first = coordinator.delete(DeletionRequest((bad,)))
    coordinator.step()
    broken.tunings = untuned(system)
    second = coordinator.delete(DeletionRequest((good,)))
    work(coordinator)
    failed = coordinator.deletion(first.id)
    assert failed.status == "failed"
    assert failed.reason is not None
    assert failed.reason.endswith(f"could not be tuned: {reason}")
    assert coordinator.deletion(second.id).status == "completed"
    assert set(coordinator.status().failed.values()) == {reason}
    broken.tunings = set()
    coordinator.retry(first.id)
    work(coordinator)
    assert coordinator.deletion(first.id).status == "completed"
    assert system.newest().root == fresh(system, bad, good)


@pytest.mark.parametrize("between", [1, 2, 4])
def test_a_restart_forgets_no_attempt(broken: Broken, between: int) -> None:
    system, coordinator = broken.system, broken.coordinator()
    deletion = coordinator.delete(DeletionRequest((largest(system)[0][1],)))
    coordinator.step()
    broken.tunings = untuned(system)
    clusters = len(coordinator.status().awaiting)
    while broken.coordinator().deletion(deletion.id).status == "erased":
        coordinator, before = broken.coordinator(), broken.tuned
        while broken.tuned < before + between and coordinator.step():
            pass
        assert broken.tuned <= ATTEMPTS * clusters
    assert broken.tuned == ATTEMPTS * clusters
    again = broken.coordinator()
    work(again)
    assert again.deletion(deletion.id).status == "failed"
    assert broken.tuned == ATTEMPTS * clusters
    again.retry(deletion.id)
    work(again)
    assert (broken.tuned, again.deletion(deletion.id).status) == (2 * ATTEMPTS * clusters, "failed")


def test_a_deletion_fails_for_its_own_clusters_only_whenever_the_coordinator_restarts(broken: Broken) -> None:
    system, coordinator = broken.system, broken.coordinator()
    (_, bad), (_, good) = largest(system)[:2]
    first = coordinator.delete(DeletionRequest((bad,)))
    coordinator.step()
    broken.tunings, clusters = untuned(system), len(coordinator.status().awaiting)
    second = coordinator.delete(DeletionRequest((good,)))
    coordinator.step()
    # Given up, but not recorded yet.
    while broken.tuned < ATTEMPTS * clusters:
        coordinator.step()
    assert coordinator.deletion(first.id).status == "erased"
    again = broken.coordinator()
    work(again)
    assert (again.deletion(first.id).status, again.deletion(second.id).status) == ("failed", "completed")
    third = again.delete(DeletionRequest((largest(system)[2][1],)))
    again.step()
    work(later := broken.coordinator())
    assert [later.deletion(each.id).status for each in (first, second, third)] == ["failed", "completed", "completed"]


@each_error
def test_an_erasure_whose_rows_cannot_be_written_is_retried_and_holds_up_no_other(broken: Broken, reason: str) -> None:
    system, coordinator = broken.system, broken.coordinator()
    broken.reason = reason
    (entry, bad), (_, good), (_, later) = largest(system)[:3]
    broken.writes = rows_objects(entry)
    # Both wait together, so that one commit would erase both.
    first, second = coordinator.delete(DeletionRequest((bad,))), coordinator.delete(DeletionRequest((good,)))
    stepped(coordinator, lambda: coordinator.deletion(second.id).status == "completed")
    deletion = coordinator.deletion(first.id)
    assert deletion.status == "accepted"
    assert deletion.reason == f"the rows of cluster {entry.key} could not be written: {reason}"
    assert coordinator.status().held_up == {first.id: deletion.reason}
    assert [each.reason for each in coordinator.recent_deletions()] == [deletion.reason, None]
    assert not coordinator.idle()
    assert bad in rows_of(system.store, entry).sample_ids
    # Objects left by failed attempts are swept.
    referenced = system.newest().objects()
    stepped(coordinator, lambda: not coordinator.step())
    assert {name for name in system.store.names() if name.startswith("rows/")} <= referenced
    third = coordinator.delete(DeletionRequest((later,)))
    stepped(coordinator, lambda: coordinator.deletion(third.id).status == "completed")
    broken.writes = set()
    again = broken.coordinator()
    work(again)
    assert again.idle()
    completed = again.deletion(first.id)
    assert (completed.status, completed.reason, again.status().held_up) == ("completed", None, {})
    verify_receipt(again.receipt(first.id), load_signing_key(system.keys).public_key())
    assert system.newest().root == fresh(system, bad, good, later)


def test_an_owner_that_fails_once_is_retried_immediately(broken: Broken, monkeypatch: pytest.MonkeyPatch) -> None:
    system, coordinator = broken.system, broken.coordinator()
    entry, bad = largest(system)[0]
    write = Owner.write_rows
    failures_left = [2]

    def fails_twice(self: Owner, job: RowsJob) -> WrittenRows:
        failures_left[0] -= 1
        broken.writes = rows_objects(entry) if failures_left[0] >= 0 else set()
        return write(self, job)

    monkeypatch.setattr(Owner, "write_rows", fails_twice)
    deletion = coordinator.delete(DeletionRequest((bad,)))
    coordinator.step()
    assert coordinator.deletion(deletion.id).status == "erased"


def test_an_ingest_whose_rows_cannot_be_written_is_refused_completely_and_can_be_repeated(broken: Broken) -> None:
    system, before = broken.system, broken.system.newest()
    broken.writes = rows_objects(*before.clusters)
    with pytest.raises(OwnerFailedError, match="could not be written: MemoryError"):
        system.ingest(samples(90, 120))
    assert system.newest() == before
    assert system.store.names("incoming/") == []
    broken.writes = set()
    system.ingest(samples(90, 120))
    assert system.newest().root == system.fresh_root(samples(0, 120))


def test_a_restore_whose_rows_cannot_be_written_says_so_and_can_be_finished(broken: Broken, tmp_path: Path) -> None:
    system = broken.system
    entry, bad = largest(system)[0]
    copy = LocalStore(tmp_path / "copy")
    for name in system.store.names():
        copy.put(name, system.store.get(name))
    system.delete(bad)
    mirror = LocalStore(tmp_path / "mirror")
    LogMirror(system.store, mirror).copy()
    signing_key = load_signing_key(system.keys)
    broken.writes = rows_objects(entry)
    with pytest.raises(OwnerFailedError, match="could not be written: MemoryError"):
        restore(copy, mirror, system.hash_key, signing_key)
    broken.writes = set()
    assert restore(copy, mirror, system.hash_key, signing_key).erased == 1


def test_the_log_names_the_digest_of_the_coreset_and_no_id(broken: Broken) -> None:
    system, coordinator = broken.system, broken.coordinator()
    broken.reason = "KeyError"
    _, bad = largest(system)[0]
    coordinator.delete(DeletionRequest((bad,)))
    coordinator.step()
    broken.tunings = untuned(system)
    work(coordinator)
    attempts = [record.body for record in Log(system.store).advance() if record.kind == "attempt"]
    leaves = {entry.key: entry.coreset_leaf for entry in system.newest().clusters}
    assert len(attempts) % ATTEMPTS == 0 != len(attempts)
    assert all(leaves[attempt["key"]] == attempt["coreset"] and attempt["reason"] == "KeyError" for attempt in attempts)


@pytest.mark.ray
def test_owners_in_separate_processes_fail_the_same_way_and_are_ended(system_of: SystemOf) -> None:
    system = system_of("minute", 24)
    rows = [row for _, row in largest(system)[:3]]
    ran = subprocess.run(
        [sys.executable, str(SCRIPT), system.store.uri, str(system.keys), *rows],
        env={**os.environ, "RAY_ADDRESS": "local"},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    report = json.loads(ran.stdout)
    assert report["out of memory"] == "OutOfMemoryError: CUDA out of memory."
    illegal = "RuntimeError: CUDA error: an illegal memory access was encountered"
    status, reason = report["held up"]
    assert (status, reason.endswith(f"could not be written: {illegal}")) == ("accepted", True)
    # Only the killed coordinator was replaced.
    assert report["first term"] == report["term after out of memory"] == report["term after failed writes"]
    assert report["after a restart"].endswith(f"could not be tuned: {illegal}")
    assert set(Counter(report["attempts"]).values()) == {ATTEMPTS}
    assert report["failed processes"] > ATTEMPTS
    assert report["failed processes alive"] == []
    assert system.newest().root == system.fresh_root([row for row in samples(0, 24) if row.sample_id not in rows])
