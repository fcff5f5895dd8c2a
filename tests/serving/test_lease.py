"""The fence over a real log in a real store. Only the clock is turned by hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lmeraser.commit import Commit
from lmeraser.errors import LogError, StoreError
from lmeraser.log import Log
from lmeraser.store import LocalStore
from serving.lease import Lease

LEASE_S = 0.5  # and steps that are exact in binary


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def append_commit(store: LocalStore) -> int:
    log = Log(store)
    log.advance()
    commit = Commit(clusters=(), heads_object="heads/a", heads_leaf="00", fixed_leaves={}, cut_leaf="00")
    return log.append("commit", 1, commit.to_body()).number


def append_other(store: LocalStore) -> None:
    log = Log(store)
    log.advance()
    log.append("term", 2, {})


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lease(store: LocalStore, clock: Clock) -> Lease:
    return Lease(store, LEASE_S, clock)


def test_nothing_holds_before_a_look_or_without_a_commit(store: LocalStore, lease: Lease) -> None:
    assert lease.look() is None
    number = append_commit(store)
    assert not lease.holds(number)


def test_a_commit_holds_for_the_lease_and_not_longer(store: LocalStore, lease: Lease, clock: Clock) -> None:
    number = append_commit(store)
    found = lease.look()
    assert found is not None and found.number == number
    clock.now += LEASE_S - 0.125
    assert lease.holds(number)
    assert not lease.holds(number, share=0.5)
    clock.now += 0.125
    assert not lease.holds(number)


def test_a_newer_commit_ends_the_older_within_the_lease(store: LocalStore, lease: Lease, clock: Clock) -> None:
    old = append_commit(store)
    lease.look()
    clock.now += 0.125
    new = append_commit(store)
    clock.now += 0.125
    found = lease.look()
    assert found is not None and found.number == new and lease.holds(new)
    # What was seen 0.25 s ago still allows to finish; nothing can prolong it.
    assert lease.holds(old)
    clock.now += 0.25
    lease.look()
    assert not lease.holds(old) and lease.holds(new)


def test_the_lease_counts_from_when_the_look_was_sent(tmp_path: Path, clock: Clock) -> None:
    class SlowStore(LocalStore):
        def get(self, name: str) -> bytes:
            clock.now += LEASE_S
            return super().get(name)

    number = append_commit(LocalStore(tmp_path))
    lease = Lease(SlowStore(tmp_path), LEASE_S, clock)
    found = lease.look()
    assert found is not None and found.number == number
    assert not lease.holds(number)


def test_a_record_that_is_no_commit_does_not_end_it(store: LocalStore, lease: Lease, clock: Clock) -> None:
    number = append_commit(store)
    append_other(store)
    lease.look()
    append_other(store)
    clock.now += 10
    found = lease.look()
    assert found is not None and found.number == number
    assert lease.holds(number)


def test_a_store_that_cannot_be_read_prolongs_nothing(
    store: LocalStore, lease: Lease, clock: Clock, tmp_path: Path
) -> None:
    number = append_commit(store)
    lease.look()
    (tmp_path / "log" / f"{number + 1:010d}.json").mkdir()
    clock.now += 0.25
    with pytest.raises(StoreError):
        lease.look()
    assert lease.holds(number)
    clock.now += 0.25
    assert not lease.holds(number)


def test_a_broken_chain_prolongs_nothing_and_loses_no_commit(
    store: LocalStore, lease: Lease, clock: Clock, tmp_path: Path
) -> None:
    old = append_commit(store)
    lease.look()
    clock.now += 1
    new = append_commit(store)
    append_other(store)
    broken = tmp_path / "log" / f"{new + 1:010d}.json"
    whole = broken.read_bytes()
    broken.write_bytes(whole.replace(b'"previous":"', b'"previous":"0'))
    with pytest.raises(LogError):
        lease.look()
    assert not lease.holds(old) and not lease.holds(new)
    broken.write_bytes(whole)
    found = lease.look()
    assert found is not None and found.number == new


def test_the_clock_of_the_wall_has_no_part(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    number = append_commit(store)
    lease = Lease(store, 30)
    lease.look()
    monkeypatch.setattr("time.time", lambda: 4e9)
    for path in (Path(store.uri) / "log").iterdir():
        os.utime(path, (4e9, 4e9))
    assert lease.holds(number)
