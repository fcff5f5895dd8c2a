"""Work on a draft does not hold up the live generation (decision 55)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from rebuilding import Rebuild, fresh_root
from small_system import System, finish, samples
from until import until

from actors.coordinator import Coordinator
from actors.draft import Draft, InThisThread
from actors.incoming import put_rows
from actors.jobs import RowsJob, WrittenRows
from actors.owners import InProcessOwners
from actors.refill import draft_samples, live_batches, put_missing
from lmeraser.deletion import DeletionRequest
from lmeraser.state.keys import load_signing_key
from lmeraser.state.manifest import Manifest
from lmeraser.store import Store

SystemOf = Callable[..., System]


class HeldOwners(InProcessOwners):
    """Owners of a live generation whose draft cannot be opened, or cannot write its rows, for a while."""

    may_open = threading.Event()
    may_write = threading.Event()

    def of_draft(self, store: Store, manifest: Manifest) -> InProcessOwners:
        assert self.may_open.wait(60)
        opened = super().of_draft(store, manifest)
        write, may_write = opened.write_rows, self.may_write

        def held(jobs: Iterable[RowsJob]) -> dict[str, WrittenRows]:
            jobs = list(jobs)
            assert not jobs or may_write.wait(60)
            return write(jobs)

        opened.write_rows = held  # type: ignore[method-assign]
        return opened


@pytest.fixture
def held() -> Iterator[type[HeldOwners]]:
    class Owners(HeldOwners):
        may_open, may_write = threading.Event(), threading.Event()

    yield Owners
    Owners.may_open.set()
    Owners.may_write.set()


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def coordinator_with(system: System, owners: type[HeldOwners], thread: ThreadPoolExecutor) -> Coordinator:
    manifest, signing_key = system.manifest, load_signing_key(system.keys)
    working = owners(system.store, manifest, system.hash_key, system.pipeline)
    return Coordinator(system.store, manifest, system.hash_key, signing_key, working, 0.0, drafting=thread)


def step_until(coordinator: Coordinator, holds: Callable[[], bool]) -> None:
    def look() -> bool | None:
        coordinator.step()
        return holds() or None

    until(look, 60, longest_pause_s=0.02)


def test_the_live_generation_erases_and_adds_while_the_draft_is_opened_and_filled(
    held: type[HeldOwners], thread: ThreadPoolExecutor, system_of: SystemOf, tmp_path: Path
) -> None:
    system = system_of("minute", 60)
    config = replace(system.manifest.config, seed=5)
    coordinator = coordinator_with(system, held, thread)
    rebuild = Rebuild(system, config)
    rebuild.begin_only(coordinator)
    coordinator.step()
    first = coordinator.delete(DeletionRequest(("s3",)))
    step_until(coordinator, lambda: system.newest().rows == 59)
    # Nobody knows yet what the draft holds, so the deletion waits, and nothing else does.
    status = coordinator.rebuilds.status()
    assert status is not None and status.draft is None
    second = coordinator.delete(DeletionRequest(("s4",)))
    step_until(coordinator, lambda: system.newest().rows == 58)
    assert {coordinator.deletion(each.id).status for each in (first, second)} == {"accepted"}
    held.may_open.set()
    step_until(coordinator, lambda: coordinator.deletion(second.id).status != "accepted")
    assert coordinator.deletion(first.id).status != "accepted"
    prefix = coordinator.rebuilds.begin_fill()
    (batch,) = live_batches(system.store)
    have_M = draft_samples(system.store, system.hash_key, rebuild.generation)
    put_missing(system.store, system.hash_key, rebuild.generation, rebuild.rows(), have_M, prefix, batch)
    filled = coordinator.rebuilds.fill(prefix)
    third = coordinator.delete(DeletionRequest(("s5",)))
    added = coordinator.begin_ingest()
    table = system.pipeline().rows(samples(60, 62))
    put_rows(system.store, system.hash_key, f"{added}rows", table, seed=system.manifest.config.seed)
    ingested = coordinator.ingest(added)
    step_until(coordinator, ingested.done)
    assert system.newest().rows == 59 and not filled.done()
    assert coordinator.deletion(third.id).status == "accepted"
    held.may_write.set()
    step_until(coordinator, lambda: coordinator.deletion(third.id).status != "accepted")
    while not coordinator.rebuilds.switched:
        rebuild.fill(coordinator)
        step_until(coordinator, lambda: coordinator.rebuilds.switched or not coordinator.rebuilds.works)
    coordinator = system.coordinator()
    finish(coordinator)
    rows = [row for row in samples(0, 62) if row.sample_id not in ("s3", "s4", "s5")]
    assert system.newest().root == fresh_root(system, config, rows, tmp_path / "fresh")


@dataclass
class Working:
    """Stands in for a draft's coordinator that always has work, each piece of which takes two seconds of a clock."""

    now_s: float = 100.0
    pieces: int = 0
    asked: list[str] = field(default_factory=list)

    def step(self) -> bool:
        self.now_s += 2.0
        self.pieces += 1
        return True

    def hold_tunings(self, reason: str) -> None:
        pass

    def erase_hashes(self, samples: list[str], _: list[str]) -> str:
        self.asked += samples
        return "its own"

    def deletion(self, _: str) -> Any:
        @dataclass
        class Waiting:
            status: str = "accepted"
            reason: None = None

        return Waiting()


def test_while_deletions_wait_a_draft_has_a_quarter_of_the_time_but_for_its_own_erasures() -> None:
    working: Any = Working()
    draft = Draft(
        lambda: True, lambda: working, lambda: "", lambda: None, InThisThread(), lambda: None, lambda: working.now_s
    )
    draft.open_soon()
    assert draft.follow(deletions_wait=True)
    begun_s, waited_s = working.now_s, 0.0
    while working.now_s < begun_s + 80:
        if not draft.follow(deletions_wait=True):
            working.now_s += 0.5
            waited_s += 0.5
    assert 2.8 < waited_s / (2 * working.pieces) < 3.2
    before = working.pieces
    assert all(draft.follow(deletions_wait=False) for _ in range(5))
    assert not draft.erase(["live"], lambda ids: (list(ids), []))
    assert all(draft.follow(deletions_wait=True) for _ in range(5))
    assert (working.pieces, working.asked) == (before + 10, ["live"])
