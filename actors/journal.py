"""The coordinator's access to the log: one term, appends in order, and the history that they add up to."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from actors.checkpoints import opened_history
from actors.log_replay import History
from lmeraser.errors import FencedError, LogError, LostRaceError
from lmeraser.state.commit import Commit
from lmeraser.state.log import Kind, Log, Position, Record
from lmeraser.state.record_bodies import DeletionBody, TermBody, body_of, deletions_of
from lmeraser.store import Store

OnAppend = Callable[[Record], None]
_EVENTS = {"request": "accepted", "retry": "tuned again"}
_log = logging.getLogger(__name__)


class Journal:
    """Appends records under one term. Safe to use from several threads.

    Raises:
        FencedError: from every method, once a newer coordinator has written to the log.
        LogError: when an append of its own had only seemed to fail; the process must start again from the log.
    """

    def __init__(self, store: Store, base: Commit | None = None, on_append: OnAppend | None = None) -> None:
        """A journal of this store's log.

        Args:
            store: the store.
            base: the commit to go on from if newer ones' objects are lost.
            on_append: called with each record that this journal appends.
        """
        # A restore reads everything: a checkpoint does not have the commit that it goes on from.
        self._log, self.history = opened_history(store) if base is None else (Log(store), History())
        self._base = base
        self._on_append = on_append
        self._lock = threading.RLock()
        self.term = 0
        self._behind = False

    def open_term(self) -> None:
        """Read the log, and take over from its last writer."""
        while True:
            self.history.replay(self._log.advance())
            self.term = self.history.term + 1
            try:
                body = TermBody(None if self._base is None else self._base.number).to_body()
                if self._base is not None:
                    self.history.commits[self._base.number] = self._base
                record = self._log.append("term", self.term, body)
                self.history.replay([record])
                self._observe(record)
                break
            except LostRaceError:
                continue
        if self._base is not None:
            self.history.commit = self._base

    def append_commit(self, commit: Commit) -> None:
        """Append a commit. After a restore it does not follow from the one before it in the log, so it names all."""
        self.append("commit", commit.to_body(None if self.history.restored else self.history.commit))

    def append(self, kind: Kind, body: dict[str, Any]) -> Record:
        """Append a record, and replay it into the history."""
        with self._lock:
            self._refuse(())
            try:
                record = self._log.append(kind, self.term, body)
            except LostRaceError as error:
                self._refuse(self._log.advance(), error)
                raise
            self.history.replay([record])
            self._observe(record)
            level = logging.WARNING if kind == "failed" else logging.INFO
            for deletion_id in deletions_of(record):
                _log.log(level, "deletion %s: %s, log record %d", deletion_id, _EVENTS.get(kind, kind), record.number)
            return record

    def append_deletions(self, kind: Kind, deletions: Sequence[DeletionBody]) -> None:
        """Append one record about these deletions; none if there are none."""
        if deletions:
            self.append(kind, body_of(deletions))

    def check(self) -> None:
        """The fence of every removal (decision 41): raises once another coordinator has written to the log."""
        with self._lock:
            self._refuse(self._log.advance())

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Nothing is appended meanwhile by other threads."""
        with self._lock:
            yield

    def heed(self) -> None:
        """Raise again what any method has raised before, without reading the log."""
        with self._lock:
            self._refuse(())

    @property
    def position(self) -> Position:
        """The position in the log from which owners work for this coordinator."""
        with self._lock:
            self._refuse(())
            return Position(self.term, self._log.head.number if self._log.head is not None else 0)

    def now(self) -> str:
        """The current time, never earlier than that of the newest record."""
        return self._log.now()

    def _observe(self, record: Record) -> None:
        if self._on_append is not None:
            self._on_append(record)

    def _refuse(self, foreign: Sequence[Record], cause: Exception | None = None) -> None:
        """Raise if there are records of others, now or at any time before.

        Once a replaced coordinator has read the log to its end, nothing else would keep it from appending to it.
        """
        self.history.replay(foreign)
        self._behind |= bool(foreign)
        if self.history.term > self.term:
            raise FencedError(
                f"a coordinator of term {self.history.term} has taken over from term {self.term}"
            ) from cause
        if self._behind:
            # An append of this process only seemed to fail: the memory of this process is behind the log.
            raise LogError(
                f"the log has a record of term {self.term} that its coordinator does not know: start again"
            ) from cause

    @property
    def head(self) -> Record:
        """The last record."""
        assert self._log.head is not None
        return self._log.head
