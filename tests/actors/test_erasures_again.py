"""Erasures whose step fails are repeated completely, and hold up no other."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

import pytest
from small_system import System
from stored_rows import rows_of
from until import FIRST_PAUSE_S, until

from actors.coordinator import Coordinator
from actors.owners import InProcessOwners
from lmeraser.deletion import DeletionRequest
from lmeraser.errors import StoreError
from lmeraser.state.keys import load_signing_key
from lmeraser.store import LocalStore

SystemOf = Callable[..., System]


class SickStore(LocalStore):
    """One of its objects cannot be read for a while."""

    sick = ""

    def get(self, name: str) -> bytes:
        if name == self.sick:
            raise StoreError(f"cannot read {name}: Input/output error")
        return super().get(name)


def test_a_row_object_that_cannot_be_read_holds_up_its_own_erasure_and_no_other(system_of: SystemOf) -> None:
    system = system_of("minute", 24)
    store = SickStore(Path(system.store.uri))
    entries = system.newest().clusters
    first, other = (rows_of(store, entry).sample_ids[0] for entry in entries[:2])
    coordinator = replace(system, store=store).coordinator()
    store.sick = entries[0].segments[0].rows_object
    stuck, free = (coordinator.delete(DeletionRequest((name,))).id for name in (first, other))
    for _ in range(20):
        coordinator.step()
    assert coordinator.deletion(stuck).status == "accepted"
    assert "Input/output error" in coordinator.status().held_up[stuck]
    assert coordinator.deletion(free).status != "accepted"
    store.sick = ""

    def completed() -> bool | None:
        coordinator.step()
        return coordinator.deletion(stuck).status == "completed" or None

    until(completed, 30, longest_pause_s=FIRST_PAUSE_S)
    assert system.newest().rows == 22


class StuckOwners(InProcessOwners):
    """An owner outlives its first end."""

    retired: list[frozenset[str]]

    def retire(self, keys: Collection[str]) -> None:
        self.retired = [*getattr(self, "retired", []), frozenset(keys)]
        if len(self.retired) == 1:
            raise StoreError("process 7 still runs, and could still write to the store")


def test_owners_that_must_end_are_ended_before_a_step_that_failed_counts(system_of: SystemOf) -> None:
    system = system_of("minute", 24)
    owners = StuckOwners(system.store, system.manifest, system.hash_key, system.pipeline)
    coordinator = Coordinator(
        system.store, system.manifest, system.hash_key, load_signing_key(system.keys), owners, lease_s=0.0
    )
    deletion = coordinator.delete(DeletionRequest(tuple(f"s{number}" for number in range(12))))
    with pytest.raises(StoreError, match="still runs"):
        coordinator.step()
    assert coordinator.deletion(deletion.id).status == "accepted"
    coordinator.step()
    assert coordinator.deletion(deletion.id).status == "erased"
    assert owners.retired[0] and owners.retired[1] == owners.retired[0]
