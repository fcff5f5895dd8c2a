"""The current snapshot, kept loaded in the background, over a real log; snapshots hold nothing but their commit."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from commits import append_commit, append_other
from until import until

from lmeraser.errors import NotReadyError, ObjectMissingError, StoreError
from lmeraser.state.commit import NO_HEADS, Commit
from lmeraser.store import LocalStore
from serving import current_snapshot
from serving.current_snapshot import CurrentSnapshot
from serving.lease import Lease

LEASE_S = 4.0


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


class CountingStore(LocalStore):
    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.requests: Counter[str] = Counter()
        self.fails = False

    def get(self, name: str) -> bytes:
        self.requests["GET"] += 1
        if self.fails:
            raise StoreError("no answer")
        return super().get(name)


@dataclass(frozen=True)
class FakeSnapshot:
    """A fake snapshot: what it was loaded from."""

    commit: Commit
    previous: int | None


def load(commit: Commit, previous: Any) -> Any:
    return FakeSnapshot(commit, previous.commit.number if previous is not None else None)


@contextmanager
def started(
    store: LocalStore, loader: Callable[[Commit, Any], Any] = load, lease_s: float = LEASE_S, clock: Any = None
) -> Iterator[CurrentSnapshot[Any]]:
    current = CurrentSnapshot(Lease(store, lease_s, clock) if clock else Lease(store, lease_s), loader)
    current.start()
    try:
        yield current
    finally:
        current.stop()


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    return CountingStore(tmp_path)


def number_of(current: CurrentSnapshot[Any]) -> int | None:
    try:
        return int(current.get().commit.number)
    except NotReadyError:
        return None


def test_once_started_there_is_a_snapshot_or_a_reason_why_there_is_none(store: CountingStore) -> None:
    with started(store, lease_s=0.2) as current:
        with pytest.raises(NotReadyError, match="holds no rows"):
            current.get()
        with pytest.raises(NotReadyError, match="holds no rows"):
            current.awaited()
        number = append_commit(store)
        until(lambda: number_of(current) == number or None, 30)
    with started(store) as current:
        assert current.get().commit.number == number
        assert current.newest().number == number


def test_while_a_commit_that_erases_nothing_is_loaded_the_previous_one_answers(store: CountingStore) -> None:
    loading, may_load = threading.Event(), threading.Event()

    def slowly(commit: Commit, previous: Any) -> Any:
        if previous is not None:
            loading.set()
            assert may_load.wait(30)
        return load(commit, previous)

    old = append_commit(store)
    with started(store, slowly, lease_s=0.2) as current:
        new = append_commit(store)
        assert loading.wait(30)
        assert current.newest().number == new
        # Polling continues meanwhile.
        for _ in range(4):
            assert current.newest().number == new
            assert current.awaited().commit.number == old
        may_load.set()
        until(lambda: number_of(current) == new or None, 30)
        assert current.get() == load(current.newest(), load(Commit((), NO_HEADS, {}, number=old), None))


def test_while_a_commit_that_erases_is_loaded_requests_wait_for_it_and_readiness_checks_do_not(
    store: CountingStore,
) -> None:
    loading, may_load = threading.Event(), threading.Event()

    def slowly(commit: Commit, previous: Any) -> Any:
        if previous is not None:
            loading.set()
            assert may_load.wait(30)
        return load(commit, previous)

    append_commit(store)
    with started(store, slowly, lease_s=0.2) as current, ThreadPoolExecutor(1) as thread:
        new = append_commit(store, "a deletion")
        assert loading.wait(30)
        until(lambda: number_of(current) is None or None, 30)
        with pytest.raises(NotReadyError, match="being loaded"):
            current.get()
        request = thread.submit(current.awaited)
        assert not request.done()
        may_load.set()
        assert request.result(30).commit.number == new


def test_many_requests_after_the_lease_wait_for_the_same_poll(store: CountingStore) -> None:
    clock = Clock()
    number = append_commit(store)
    with started(store, clock=clock) as current, ThreadPoolExecutor(64) as clients:
        before = store.requests["GET"]
        clock.now += LEASE_S
        with pytest.raises(NotReadyError):
            current.get()
        answers = list(clients.map(lambda _: current.awaited().commit.number, range(64)))
        assert answers == [number] * 64
        # The next regular poll, and perhaps one more on a slow machine; not one per request.
        assert store.requests["GET"] - before < 8


def test_a_failing_store_is_reported_at_once_and_answers_resume_when_it_is_back(store: CountingStore) -> None:
    clock = Clock()
    number = append_commit(store)
    with started(store, lease_s=0.2, clock=clock) as current:
        store.fails = True
        clock.now += 1.0
        for ask in (current.awaited, current.newest):
            with pytest.raises(NotReadyError, match="cannot be read"):
                ask()
        store.fails = False
        until(lambda: number_of(current) == number or None, 30)


def test_with_an_unresponsive_store_one_request_waits_and_the_others_do_not(
    store: CountingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(current_snapshot, "_MAX_WAIT_S", 0.05)
    may_answer = threading.Event()
    may_answer.set()

    class Silent(CountingStore):
        def get(self, name: str) -> bytes:
            assert may_answer.wait(60)
            return super().get(name)

    clock = Clock()
    number = append_commit(store)
    with started(Silent(Path(store.uri)), lease_s=0.2, clock=clock) as current:
        may_answer.clear()
        clock.now += 1.0
        until(lambda: sum(thread.name == "poll" for thread in threading.enumerate()) >= 8 or None, 30)
        for max_wait_s in (0.05, 600.0):
            monkeypatch.setattr(current_snapshot, "_MAX_WAIT_S", max_wait_s)
            with pytest.raises(NotReadyError, match="no commit could be read"):
                current.awaited()
        may_answer.set()
        until(lambda: number_of(current) == number or None, 30)


@pytest.mark.parametrize(
    "error", [StoreError("half an answer"), NotReadyError("the heads are missing"), RuntimeError()]
)
def test_a_commit_that_cannot_be_loaded_is_retried(
    store: CountingStore, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(current_snapshot, "_RETRY_S", 0.01)
    may_load = threading.Event()

    def failing(commit: Commit, previous: Any) -> Any:
        if not may_load.is_set():
            raise error
        return load(commit, previous)

    number = append_commit(store)
    with started(store, failing, lease_s=0.2) as current:
        reason = "the heads are missing" if isinstance(error, NotReadyError) else "cannot be read"
        with pytest.raises(NotReadyError, match=reason):
            current.awaited()
        may_load.set()
        until(lambda: number_of(current) == number or None, 30)


def test_a_commit_whose_objects_a_newer_one_has_removed_is_skipped(store: CountingStore) -> None:
    newer: list[int] = []

    def swept(commit: Commit, previous: Any) -> Any:
        if not newer:
            newer.append(append_commit(store, "a deletion"))
            raise ObjectMissingError("swept")
        return load(commit, previous)

    append_commit(store)
    with started(store, swept, lease_s=0.2) as current:
        # The start ends with a snapshot, not with an error.
        assert current.get().commit.number == newer[0]


def test_erased_rows_do_not_stay_in_memory_when_no_snapshot_replaces_them(store: CountingStore) -> None:
    def none_when_empty(commit: Commit, previous: Any) -> Any:
        if commit.requests:
            raise NotReadyError("the system holds no rows")
        return load(commit, previous)

    append_commit(store)
    with started(store, none_when_empty, lease_s=0.2) as current:
        append_commit(store, "the deletion of all")
        until(lambda: number_of(current) is None or None, 30)
        with pytest.raises(NotReadyError, match="holds no rows"):
            current.awaited()
        append_other(store)
        number = append_commit(store)
        until(lambda: number_of(current) == number or None, 30)
        assert current.get() == load(current.newest(), None)


def test_stopping_ends_the_threads(store: CountingStore) -> None:
    append_commit(store)
    before = set(threading.enumerate())
    with started(store, lease_s=0.2):
        threads = set(threading.enumerate()) - before
        assert threads
    until(lambda: not any(thread.is_alive() for thread in threads) or None, 60)
