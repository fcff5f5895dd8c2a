"""The serving fence: which commit a replica may answer from now.

A replica answers from commit n only if within the last ``lease_s`` it saw in the store that no commit after n erases
anything. The coordinator waits ``lease_s`` after it has appended a commit that does, so that no answer from a commit
before it is given after that, whether or not the replica is known, frozen, new or cut off. A commit that erases
nothing, such as one of a new specialist, ends no other: the one before may answer until the new one is loaded.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from lmeraser.state.commit import Commit
from lmeraser.state.log import Log, Record
from lmeraser.store import Store

MOST_LOOKS = 8
# Where the store answers as quickly as a local disk does, one request after the other costs nothing.
_QUICK_S = 0.01


@dataclass(frozen=True)
class _Seen:
    """How far the log was seen: its last record, the newest commit, and the number of the last that erased."""

    head: Record | None = None
    newest: Commit | None = None
    erasing: int = 0

    def followed_by(self, records: list[Record]) -> _Seen:
        newest, erasing = self.newest, self.erasing
        for record in records:
            if record.kind == "commit":
                newest = Commit.from_record(record)
                erasing = newest.number if newest.requests else erasing
        return _Seen(records[-1] if records else self.head, newest, erasing)


class Lease:
    """What was seen of the log, and when. Used by several threads; looks run side by side, at most MOST_LOOKS."""

    def __init__(self, store: Store, lease_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Start without having seen anything.

        Args:
            store: holds the log.
            lease_s: for how long what was seen allows to answer.
            clock: seconds that only grow, of this process.
        """
        self.lease_s = lease_s
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._seen = _Seen()
        # When the last look was sent that found this commit to be the last that erased anything. Replaced whole.
        self._sent_at: dict[int, float] = {}

    @property
    def newest(self) -> Commit | None:
        """The newest commit that was seen; None while there is none."""
        return self._seen.newest

    @property
    def has_seen(self) -> bool:
        """Whether any record was seen; until then a look lists the whole log."""
        return self._seen.head is not None

    def holds(self, number: int) -> bool:
        """Whether commit ``number`` may answer now."""
        age_s = self.age_s(number)
        return age_s is not None and age_s < self.lease_s

    def age_s(self, number: int) -> float | None:
        """Seconds since a look was sent that found nothing erased after commit ``number``; None when long ago."""
        sent_at = [at for erasing, at in self._sent_at.items() if erasing <= number]
        return self._clock() - max(sent_at) if sent_at else None

    def superseded(self, number: int) -> bool:
        """Whether something was erased after commit ``number``, so that no look can prolong it any more."""
        return number < self._seen.erasing

    def look(self) -> Commit | None:
        """Look for newer commits in the store; the newest, or None when there is none yet.

        What is found counts from when this is called. A look that fails prolongs nothing.

        Raises:
            StoreError: when the store cannot be read.
            LogError: when the log's chain does not hold.
        """
        sent_at = self._clock()
        before = self._seen
        log = Log(self._store, before.head)
        seen = before.followed_by(_newer(self._store, log) if before.head is not None else log.advance())
        with self._lock:
            # One that was sent later may have come back earlier, and seen more.
            if seen.head is not None and (self._seen.head is None or seen.head.number > self._seen.head.number):
                self._seen = seen
            if seen.newest is not None:
                kept = {number: at for number, at in self._sent_at.items() if sent_at - at < self.lease_s}
                self._sent_at = kept | {seen.erasing: max(sent_at, kept.get(seen.erasing, sent_at))}
            return self._seen.newest


def _newer(store: Store, log: Log) -> list[Record]:
    records = []
    while (record := _next_in_sight(store, log)) is not None:
        records.append(record)
    return records


def _next_in_sight(store: Store, log: Log) -> Record | None:
    """The record after the log's position; None when there is none and the last one is still in sight."""
    at = Log(store, log.head)
    read = threading.Event()

    def check() -> None:
        # After the answer where it is quick: a folder that is unmounted between the two is noticed then. A bucket is
        # not unmounted, and its answers are not waited for one after the other.
        read.wait(_QUICK_S)
        at.check_in_sight()

    checked = _beside(check)
    try:
        record = log.next()
    finally:
        read.set()
        # Waited for in any case, so that a look leaves no request behind.
        failure = checked.exception()
    if record is None and failure is not None:
        raise failure
    return record


def _beside(work: Callable[[], None]) -> Future[None]:
    """The outcome of work on a thread of its own; unlike an executor's, it does not hold up the end of the process."""
    outcome: Future[None] = Future()

    def run() -> None:
        try:
            work()
        except Exception as error:
            outcome.set_exception(error)
        else:
            outcome.set_result(None)

    threading.Thread(target=run, name="in-sight", daemon=True).start()
    return outcome
