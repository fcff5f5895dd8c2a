"""The serving fence: which commit a replica may answer from now.

A replica answers from commit n only if it saw in the store, within the last ``lease_s``, that no commit after n erases
anything. The coordinator waits ``lease_s`` after it has appended a commit that erases; after that nothing answers from
an earlier commit, whether a replica is known, frozen, new or cut off. A commit that erases nothing, such as one with a
new specialist, does not end the previous one, which may answer until the new one is loaded.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from lmeraser.state.checkpoint import newest_checkpoint
from lmeraser.state.commit import Commit
from lmeraser.state.log import Log, Record
from lmeraser.state.record_bodies import rebuild_after
from lmeraser.store import Store

MAX_POLLS = 8
# With a store as fast as a local disk, sequential requests cost nothing.
_QUICK_S = 0.01


@dataclass(frozen=True)
class _LogView:
    """What was read of the log.

    Attributes:
        head: its last record.
        newest: the newest commit.
        erasing: number of the last erasing commit.
        rebuild: the generation that is being made; None if none is.
    """

    head: Record | None = None
    newest: Commit | None = None
    erasing: int = 0
    rebuild: str | None = None

    def followed_by(self, records: list[Record]) -> _LogView:
        newest, erasing, rebuild = self.newest, self.erasing, self.rebuild
        for record in records:
            if record.kind == "commit":
                newest = Commit.from_record(record, newest)
                erasing = newest.number if newest.requests else erasing
            rebuild = rebuild_after(record, rebuild)
        return _LogView(records[-1] if records else self.head, newest, erasing, rebuild)


class Lease:
    """What was read of the log, and when. Safe to use from several threads; up to MAX_POLLS polls run in parallel."""

    def __init__(self, store: Store, lease_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Start without having read anything.

        Args:
            store: holds the log.
            lease_s: for how long after a poll its commit may answer.
            clock: this process's monotonic clock, in seconds.
        """
        self.lease_s = lease_s
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._view = _LogView()
        # Per erasing commit, when the last poll was sent that found no later one. Replaced as a whole.
        self._sent_at: dict[int, float] = {}

    @property
    def newest(self) -> Commit | None:
        """The newest commit that a poll has read; None while there is none."""
        return self._view.newest

    @property
    def rebuild(self) -> str | None:
        """The generation that is being made; None if none is."""
        return self._view.rebuild

    @property
    def has_records(self) -> bool:
        """Whether any record was read; until then a poll lists the whole log."""
        return self._view.head is not None

    def holds(self, number: int) -> bool:
        """Whether commit ``number`` may answer now."""
        age_s = self.age_s(number)
        return age_s is not None and age_s < self.lease_s

    def age_s(self, number: int) -> float | None:
        """Seconds since sending the last poll that saw no erasure after commit ``number``; None if it is too old."""
        sent_at = [at for erasing, at in self._sent_at.items() if erasing <= number]
        return self._clock() - max(sent_at) if sent_at else None

    def superseded(self, number: int) -> bool:
        """Whether something was erased after commit ``number``, so that no poll can renew its lease."""
        return number < self._view.erasing

    def poll(self) -> Commit | None:
        """Read newer records from the store; returns the newest commit, or None when there is none yet.

        The lease counts from the call of this method. A poll that fails renews nothing.

        Raises:
            StoreError: when the store cannot be read.
            LogError: when the log's chain does not hold.
        """
        sent_at = self._clock()
        previous = self._view
        if previous.head is None:
            view = _first_view(self._store)
        else:
            view = previous.followed_by(_newer(self._store, Log(self._store, previous.head)))
        with self._lock:
            # A poll that was sent later may have returned earlier, and read more.
            if view.head is not None and (self._view.head is None or view.head.number > self._view.head.number):
                self._view = view
            if view.newest is not None:
                kept = {number: at for number, at in self._sent_at.items() if sent_at - at < self.lease_s}
                self._sent_at = kept | {view.erasing: max(sent_at, kept.get(view.erasing, sent_at))}
            return self._view.newest


def _first_view(store: Store) -> _LogView:
    """What the newest checkpoint and the records after it say; without a checkpoint, all records."""
    checkpoint = newest_checkpoint(store)
    view = _LogView()
    if checkpoint is not None and checkpoint.commit is not None:
        # Which commit was the last to erase is not known, so the newest one counts as that.
        rebuild = checkpoint.history["rebuild"]
        view = _LogView(checkpoint.head, checkpoint.commit, checkpoint.commit.number, rebuild)
    return view.followed_by(Log(store, view.head).advance())


def _newer(store: Store, log: Log) -> list[Record]:
    records = []
    while (record := _next_in_sight(store, log)) is not None:
        records.append(record)
    return records


def _next_in_sight(store: Store, log: Log) -> Record | None:
    """The record after the log's position; None when there is none and the last record can still be read."""
    position = Log(store, log.head)
    read = threading.Event()

    def check() -> None:
        # With a fast store this check comes after the read, so that a folder that is unmounted in between is noticed.
        # A bucket is not unmounted, so its two requests run in parallel.
        read.wait(_QUICK_S)
        position.check_in_sight()

    checked = _in_thread(check)
    try:
        record = log.next()
    finally:
        read.set()
        # Waited for in any case, so that a poll leaves no request behind.
        failure = checked.exception()
    if record is None and failure is not None:
        raise failure
    return record


def _in_thread(work: Callable[[], None]) -> Future[None]:
    """Run work in a daemon thread, which unlike an executor's does not delay the end of the process."""
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
