"""Polls at a fixed pace, over a real log; the store's delays and the clock are simulated."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from commits import append_commit
from until import until

from lmeraser.errors import StoreError
from lmeraser.store import LocalStore
from serving.lease import MAX_POLLS, Lease
from serving.renewal import Renewal

LEASE_S = 0.5
INTERVAL_S = LEASE_S / 4
STEP_S = 1 / 64


class Time:
    """A clock that the test advances, and threads that sleep by it."""

    def __init__(self) -> None:
        self.now = 100.0
        self._changed = threading.Condition()
        self._sleeping: list[float] = []
        self._ended = False

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        with self._changed:
            wakes_at = self.now + seconds
            self._sleeping.append(wakes_at)
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._ended or self.now >= wakes_at, 30)
            self._sleeping.remove(wakes_at)
            self._changed.notify_all()

    def sleeping(self) -> int:
        """How many threads wait for a later time."""
        with self._changed:
            return sum(wakes_at > self.now for wakes_at in self._sleeping)

    def end(self) -> None:
        """Wake all threads, and let none sleep again."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def advance(self, seconds: float, working: Callable[[], int]) -> None:
        """Advance the clock once every working thread sleeps; return when all sleep again."""
        with self._changed:
            self._settle(working)
            self.now += seconds
            self._changed.notify_all()
            self._settle(working)

    def _settle(self, working: Callable[[], int]) -> None:
        last = time.monotonic() + 30
        while sum(wakes_at > self.now for wakes_at in self._sleeping) < working():
            assert time.monotonic() < last, "a poll neither sleeps nor ends"
            # The end of a poll does not notify this condition.
            self._changed.wait(0.001)


class SlowStore(LocalStore):
    """Each GET takes ``delay_s`` of simulated time, half of it before the read."""

    def __init__(self, root: Path, clock: Time, delay_s: Callable[[], float]) -> None:
        super().__init__(root)
        self._clock = clock
        self.delay_s = delay_s
        self.fails: Callable[[], bool] = lambda: False

    def get(self, name: str) -> bytes:
        delay_s = self.delay_s()
        self._clock.sleep(delay_s / 2)
        try:
            if self.fails():
                raise StoreError("the store does not answer")
            return super().get(name)
        finally:
            self._clock.sleep(delay_s / 2)


class Replica:
    """A lease that is renewed in simulated time."""

    def __init__(self, folder: Path, delay_s: Callable[[], float]) -> None:
        self.disk = LocalStore(folder)
        self.first = append_commit(self.disk)
        self.clock = Time()
        self.store = SlowStore(folder, self.clock, lambda: 0.0)
        self.lease = Lease(self.store, LEASE_S, self.clock)
        self.lease.poll()
        self.store.delay_s = delay_s
        self.begun = self.refused = self.ended = self.failed = self.most = 0
        self._lock = threading.Lock()
        self._renewal = Renewal(self.lease, self._on_poll)

    def _on_poll(self, _sent_at: float, failure: Exception | None) -> None:
        with self._lock:
            self.ended += 1
            self.failed += failure is not None

    def pending(self) -> int:
        with self._lock:
            return self.begun - self.ended

    def steps(self, seconds: float) -> Iterator[float]:
        """Let time pass in steps, and begin polls at their pace."""
        for step in range(round(seconds / STEP_S)):
            if step % round(INTERVAL_S / STEP_S) == 0:
                if self._renewal.begin():
                    self.begun += 1
                else:
                    self.refused += 1
                self.most = max(self.most, self.pending())
            self.clock.advance(STEP_S, self.pending)
            yield self.clock.now


@contextmanager
def simulated(folder: Path, delay_s: Callable[[], float]) -> Iterator[Replica]:
    replica = Replica(folder, delay_s)
    try:
        yield replica
    finally:
        replica.clock.end()
        until(lambda: replica.pending() == 0 or None, 30)


@pytest.mark.parametrize("delay_s", [0.0, 0.0625, 0.15625, 0.25, 0.34375])
def test_a_store_that_is_slower_than_the_pace_interrupts_no_answers(tmp_path: Path, delay_s: float) -> None:
    with simulated(tmp_path, lambda: delay_s) as replica:
        assert all(replica.lease.holds(replica.first) for _ in replica.steps(4.0))
        assert (replica.refused, replica.failed) == (0, 0)


@pytest.mark.parametrize("delay_s", [0.0, 0.15625, 0.34375])
def test_a_commit_answers_for_at_most_the_lease_after_an_erasure_and_the_next_one_follows(
    tmp_path: Path, delay_s: float
) -> None:
    with simulated(tmp_path, lambda: delay_s) as replica:
        for _ in replica.steps(1.0):
            pass
        erasing = append_commit(replica.disk, "a deletion")
        erased_at = replica.clock.now + LEASE_S
        answered = []
        for now in replica.steps(2.0):
            assert now < erased_at or not replica.lease.holds(replica.first)
            answered.append(replica.lease.holds(replica.first) or replica.lease.holds(erasing))
        # The second GET of a poll finds it, so a slow store leaves a gap, which ends.
        assert all(answered) or delay_s > 0.25
        assert all(answered[-64:])


@pytest.mark.parametrize("seed", range(12))
def test_in_random_histories_no_commit_answers_a_lease_after_a_later_one_that_erased(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    longest_s = chance.choice([0.25, 0.5, 1.0])
    with simulated(tmp_path, lambda: chance.uniform(0, longest_s)) as replica:
        replica.store.fails = lambda: chance.random() < 0.1
        numbers = [replica.first]
        ended_at: dict[int, float] = {}
        for now in replica.steps(3.0):
            if chance.random() < 0.03:
                requests = ("a deletion",) if chance.random() < 0.5 else ()
                number = append_commit(replica.disk, *requests)
                if requests:
                    ended_at |= {older: now + LEASE_S for older in numbers if older not in ended_at}
                numbers.append(number)
            assert not [n for n, end in ended_at.items() if now >= end and replica.lease.holds(n)]
        assert replica.begun > 0


def test_a_hanging_store_accumulates_no_polls_and_is_read_again_when_it_answers(tmp_path: Path) -> None:
    hangs = True
    with simulated(tmp_path, lambda: 8.0 if hangs else 0.0) as replica:
        for now in replica.steps(4.0):
            assert replica.lease.holds(replica.first) == (now < 100 + LEASE_S)
        assert replica.most == MAX_POLLS == replica.begun
        assert replica.refused > 0
        assert replica.clock.sleeping() == MAX_POLLS
        hangs = False
        for _ in replica.steps(8.0):
            pass
        assert replica.lease.holds(replica.first)


def test_a_poll_that_fails_renews_nothing(tmp_path: Path) -> None:
    with simulated(tmp_path, lambda: 0.0625) as replica:
        replica.store.fails = lambda: True
        for now in replica.steps(2.0):
            assert replica.lease.holds(replica.first) == (now < 100 + LEASE_S)
        assert replica.failed > 0
        replica.store.fails = lambda: False
        for _ in replica.steps(1.0):
            pass
        assert replica.lease.holds(replica.first)


def test_a_poll_that_ends_in_any_error_makes_room_for_others(tmp_path: Path) -> None:
    class Broken(LocalStore):
        broken = False

        def get(self, name: str) -> bytes:
            if self.broken:
                raise RuntimeError("an error that no store raises")
            return super().get(name)

    store = Broken(tmp_path)
    append_commit(store)
    lease = Lease(store, LEASE_S)
    lease.poll()
    store.broken = True
    failures: list[Exception | None] = []

    def failed(count: int) -> bool | None:
        return len(failures) == count or None

    renewal = Renewal(lease, lambda _sent_at, failure: failures.append(failure))
    for count in range(1, 3 * MAX_POLLS):
        assert renewal.begin()
        until(partial(failed, count), 30)
    assert {type(failure) for failure in failures} == {RuntimeError}
