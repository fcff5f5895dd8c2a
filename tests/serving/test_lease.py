"""The fence over a real log in a real store; only the clock is simulated."""

from __future__ import annotations

import os
import shutil
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from commits import append_commit, append_other

from lmeraser.errors import LogError, StoreError
from lmeraser.state.commit import Commit, StoredHeads
from lmeraser.state.log import Kind, Log
from lmeraser.store import LocalStore
from serving.lease import Lease

LEASE_S = 0.5  # and steps that are exact in binary


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lease(store: LocalStore, clock: Clock) -> Lease:
    return Lease(store, LEASE_S, clock)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("rebuild", {"generation": "one", "abandoned": True}),
        ("commit", Commit((), StoredHeads("heads/a", "00", "heads/b", "00"), {}, generation="one").to_body()),
        ("term", {"base": 1}),
    ],
    ids=["abandoned", "switched", "restored from an earlier commit"],
)
def test_the_generation_that_is_made_is_known_until_its_rebuild_ends(
    kind: Kind, body: dict[str, Any], store: LocalStore, lease: Lease
) -> None:
    append_commit(store)
    lease.poll()
    assert lease.rebuild is None
    append(store, "rebuild", {"generation": "one", "abandoned": False})
    append_commit(store)
    append_other(store)
    lease.poll()
    assert lease.rebuild == "one"
    append(store, kind, body)
    lease.poll()
    assert lease.rebuild is None


def append(store: LocalStore, kind: Kind, body: dict[str, Any]) -> None:
    log = Log(store)
    log.advance()
    log.append(kind, 1, body)


def test_nothing_holds_before_a_poll_or_without_a_commit(store: LocalStore, lease: Lease) -> None:
    assert lease.poll() is None
    number = append_commit(store)
    assert not lease.holds(number)


def test_a_commit_holds_for_the_lease_and_no_longer(store: LocalStore, lease: Lease, clock: Clock) -> None:
    number = append_commit(store)
    newest = lease.poll()
    assert newest is not None and newest.number == number
    clock.now += LEASE_S - 0.125
    assert lease.holds(number)
    clock.now += 0.125
    assert not lease.holds(number)


def test_a_commit_that_erases_ends_the_older_one_within_the_lease(
    store: LocalStore, lease: Lease, clock: Clock
) -> None:
    old = append_commit(store)
    lease.poll()
    clock.now += 0.125
    new = append_commit(store, "a deletion")
    clock.now += 0.125
    newest = lease.poll()
    assert newest is not None and newest.number == new and lease.holds(new)
    assert lease.superseded(old) and not lease.superseded(new)
    # The poll of 0.25 s ago still allows to finish; nothing can renew it.
    assert lease.holds(old)
    clock.now += 0.25
    lease.poll()
    assert not lease.holds(old) and lease.holds(new)


def test_a_commit_that_erases_nothing_ends_no_other_one(store: LocalStore, lease: Lease, clock: Clock) -> None:
    erasing = append_commit(store, "a deletion")
    tuned = append_commit(store)
    for _ in range(3):
        clock.now += 10
        newest = lease.poll()
        assert newest is not None and newest.number == tuned
        assert lease.holds(erasing) and lease.holds(tuned) and not lease.superseded(erasing)
        assert not lease.holds(erasing - 1)


def test_the_lease_counts_from_the_sending_of_the_poll(tmp_path: Path, clock: Clock) -> None:
    class SlowStore(LocalStore):
        def get(self, name: str) -> bytes:
            clock.now += LEASE_S
            return super().get(name)

    number = append_commit(LocalStore(tmp_path))
    lease = Lease(SlowStore(tmp_path), LEASE_S, clock)
    newest = lease.poll()
    assert newest is not None and newest.number == number
    assert not lease.holds(number)


def test_a_record_that_is_not_a_commit_does_not_end_the_lease(store: LocalStore, lease: Lease, clock: Clock) -> None:
    number = append_commit(store)
    append_other(store)
    lease.poll()
    append_other(store)
    clock.now += 10
    newest = lease.poll()
    assert newest is not None and newest.number == number
    assert lease.holds(number)


def test_a_store_that_cannot_be_read_renews_nothing(
    store: LocalStore, lease: Lease, clock: Clock, tmp_path: Path
) -> None:
    number = append_commit(store)
    lease.poll()
    (tmp_path / "log" / f"{number + 1:010d}.json").mkdir()
    clock.now += 0.25
    with pytest.raises(StoreError):
        lease.poll()
    assert lease.holds(number)
    clock.now += 0.25
    assert not lease.holds(number)


def test_a_broken_chain_renews_nothing_and_loses_no_commit(
    store: LocalStore, lease: Lease, clock: Clock, tmp_path: Path
) -> None:
    old = append_commit(store)
    lease.poll()
    clock.now += 1
    new = append_commit(store)
    append_other(store)
    broken = tmp_path / "log" / f"{new + 1:010d}.json"
    whole = broken.read_bytes()
    broken.write_bytes(whole.replace(b'"previous":"', b'"previous":"0'))
    with pytest.raises(LogError):
        lease.poll()
    assert not lease.holds(old) and not lease.holds(new)
    broken.write_bytes(whole)
    newest = lease.poll()
    assert newest is not None and newest.number == new


def test_the_wall_clock_does_not_matter(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    number = append_commit(store)
    lease = Lease(store, 30)
    lease.poll()
    monkeypatch.setattr("time.time", lambda: 4e9)
    for path in (Path(store.uri) / "log").iterdir():
        os.utime(path, (4e9, 4e9))
    assert lease.holds(number)


class GatedStore(LocalStore):
    """Counts requests, and can hold back the answer to one GET until it is released."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.requests: Counter[str] = Counter()
        self.holds_next = False
        self.held, self.released, self.has_checked = threading.Event(), threading.Event(), threading.Event()

    def get(self, name: str) -> bytes:
        self.requests["GET"] += 1
        try:
            return super().get(name)
        finally:
            if self.holds_next:
                self.holds_next = False
                self.held.set()
                assert self.released.wait(30)

    def exists(self, name: str) -> bool:
        self.requests["HEAD"] += 1
        self.has_checked.set()
        return super().exists(name)


def test_a_poll_is_one_get_and_one_head_which_run_in_parallel_in_a_slow_store(tmp_path: Path) -> None:
    store = GatedStore(tmp_path)
    append_commit(store)
    lease = Lease(store, LEASE_S)
    lease.poll()
    for _ in range(3):
        store.requests.clear()
        lease.poll()
        assert store.requests == {"GET": 1, "HEAD": 1}
    store.has_checked.clear()
    store.holds_next = True
    with ThreadPoolExecutor(1) as thread:
        poll = thread.submit(lease.poll)
        assert store.has_checked.wait(30) and not poll.done()
        store.released.set()
        assert poll.result(30) is not None


def test_a_folder_that_disappears_between_the_two_requests_of_a_poll_renews_nothing(
    tmp_path: Path, clock: Clock
) -> None:
    class Unmounted(LocalStore):
        def get(self, name: str) -> bytes:
            if unmounted:
                shutil.rmtree(tmp_path / "log")
            return super().get(name)

    unmounted = False
    number = append_commit(LocalStore(tmp_path))
    lease = Lease(Unmounted(tmp_path), LEASE_S, clock)
    lease.poll()
    clock.now += LEASE_S
    unmounted = True
    with pytest.raises(StoreError, match="is missing now"):
        lease.poll()
    assert not lease.holds(number)


def test_a_poll_that_returns_after_one_that_was_sent_later_undoes_nothing(tmp_path: Path, clock: Clock) -> None:
    store = GatedStore(tmp_path)
    old = append_commit(store)
    lease = Lease(store, LEASE_S, clock)
    lease.poll()
    store.holds_next = True
    with ThreadPoolExecutor(1) as thread:
        early = thread.submit(lease.poll)
        assert store.held.wait(30)
        clock.now += 0.25
        new = append_commit(LocalStore(tmp_path), "a deletion")
        newest = lease.poll()
        assert newest is not None and newest.number == new and lease.holds(new)
        store.released.set()
        newest = early.result(30)
    assert newest is not None and newest.number == new
    assert lease.age_s(new) == 0
    clock.now += 0.25
    assert not lease.holds(old)
    assert lease.holds(new)
