"""The snapshot that answers now: loaded in the background, and given out only while its commit's lease holds."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from lmeraser.errors import LMEraserError, NotReadyError
from lmeraser.state.commit import Commit
from serving.lease import Lease
from serving.renewal import Renewal

# How long a request waits for a snapshot, and how long a commit that could not be loaded waits for the next attempt.
_MAX_WAIT_S = 5.0
_RETRY_S = 2.0

logger = logging.getLogger(__name__)


class OfCommit(Protocol):
    """What answers from one commit."""

    @property
    def commit(self) -> Commit: ...


SnapshotT = TypeVar("SnapshotT", bound=OfCommit)


class CurrentSnapshot(Generic[SnapshotT]):
    """Keeps the snapshot of the newest commit loaded, in threads of its own. Safe to use from several threads."""

    def __init__(self, lease: Lease, load: Callable[[Commit, SnapshotT | None], SnapshotT]) -> None:
        """Does nothing before :meth:`start`.

        Args:
            lease: says which commit is the newest, and which may answer.
            load: loads the snapshot of a commit, and may reuse parts of the previous one.
        """
        self._lease = lease
        self._load = load
        self._renewal = Renewal(lease, self._on_poll)
        self._changed = threading.Condition()
        self._snapshot: SnapshotT | None = None
        # When the newest successful poll was sent; when the newest failed poll was sent, and why it failed; which
        # commit could not be loaded, and why.
        self._polled_at = -1.0
        self._poll_failure: tuple[float, Exception] | None = None
        self._load_failure: tuple[int, Exception] | None = None
        # One request has waited in vain and no poll has ended since: further requests need not wait as well.
        self._unresponsive = False
        self._stopped = False

    def start(self) -> None:
        """Start the threads; returns once there is a snapshot, or a reason why there is none yet."""
        self._renewal.start()
        threading.Thread(target=self._keep_loaded, name="snapshot", daemon=True).start()
        with self._changed:
            self._changed.wait_for(lambda: self._snapshot is not None or self._reason(0.0) is not None)

    def stop(self) -> None:
        """End the threads, without waiting for requests to the store that they have sent."""
        self._renewal.stop()
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def get(self) -> SnapshotT:
        """A snapshot that may answer now; does not wait.

        Raises:
            NotReadyError: when there is none.
        """
        with self._changed:
            if (snapshot := self._usable()) is not None:
                return snapshot
            raise self._reason(0.0) or NotReadyError("the newest commit is being loaded")

    def awaited(self) -> SnapshotT:
        """A snapshot that may answer now; waits some seconds while a poll or a snapshot is under way.

        Raises:
            NotReadyError: when there is none.
        """
        called_at = time.monotonic()
        with self._changed:
            while (snapshot := self._usable()) is None:
                if (reason := self._reason(called_at)) is not None:
                    raise reason
                self._wait(called_at)
            return snapshot

    def newest(self) -> Commit:
        """The newest commit, as seen by a poll that was sent after this was called.

        Raises:
            NotReadyError: when there is none, or the store cannot be read.
        """
        called_at = time.monotonic()
        with self._changed:
            while self._polled_at < called_at:
                if self._poll_failure is not None and self._poll_failure[0] >= called_at:
                    raise _unreadable(self._poll_failure[1])
                self._wait(called_at)
            if self._lease.newest is None:
                raise _no_rows()
            return self._lease.newest

    def _usable(self) -> SnapshotT | None:
        snapshot = self._snapshot
        return snapshot if snapshot is not None and self._lease.holds(snapshot.commit.number) else None

    def _reason(self, called_at: float) -> NotReadyError | None:
        """Why no snapshot may answer; None while polls since ``called_at`` leave hope that one will."""
        newest = self._lease.newest
        if self._poll_failure is not None and self._poll_failure[0] >= max(called_at, self._polled_at):
            return _unreadable(self._poll_failure[1])
        if newest is None:
            return _no_rows() if self._polled_at >= called_at else None
        if self._load_failure is not None and self._load_failure[0] == newest.number:
            error = self._load_failure[1]
            return NotReadyError(str(error)) if isinstance(error, NotReadyError) else _unreadable(error)
        return None

    def _wait(self, called_at: float) -> None:
        remaining_s = called_at + _MAX_WAIT_S - time.monotonic()
        if self._unresponsive or not self._changed.wait(max(remaining_s, 0)):
            self._unresponsive = True
            raise NotReadyError(f"no commit could be read and loaded within {_MAX_WAIT_S:g} s")

    def _on_poll(self, sent_at: float, failure: Exception | None) -> None:
        with self._changed:
            self._unresponsive = False
            if failure is None:
                self._polled_at = max(self._polled_at, sent_at)
            elif self._poll_failure is None or self._poll_failure[0] < sent_at:
                self._poll_failure = sent_at, failure
            self._changed.notify_all()

    def _keep_loaded(self) -> None:
        while (commit := self._next_commit()) is not None:
            try:
                snapshot = self._load(commit, self._snapshot)
            except Exception as error:
                if not isinstance(error, LMEraserError):
                    logger.exception("commit %d could not be loaded", commit.number)
                self._pause_after(commit, error)
            else:
                with self._changed:
                    self._snapshot, self._load_failure = snapshot, None
                    self._changed.notify_all()

    def _next_commit(self) -> Commit | None:
        """The newest commit, once the snapshot is of another one; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._is_behind())
            return None if self._stopped else self._lease.newest

    def _is_behind(self) -> bool:
        newest = self._lease.newest
        return newest is not None and (self._snapshot is None or self._snapshot.commit.number != newest.number)

    def _pause_after(self, commit: Commit, error: Exception) -> None:
        """Return at once if a newer commit has removed this one's objects; else report the error and wait a while."""
        failed_at = time.monotonic()
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._has_polled_since(failed_at))
            if self._is_newest(commit):
                self._report(commit, error)
                self._changed.wait_for(lambda: self._stopped or not self._is_newest(commit), timeout=_RETRY_S)

    def _has_polled_since(self, moment: float) -> bool:
        return self._polled_at >= moment or (self._poll_failure is not None and self._poll_failure[0] >= moment)

    def _is_newest(self, commit: Commit) -> bool:
        return self._lease.newest is None or self._lease.newest.number == commit.number

    def _report(self, commit: Commit, error: Exception) -> None:
        self._load_failure = commit.number, error
        superseded = self._snapshot is not None and self._lease.superseded(self._snapshot.commit.number)
        if superseded and isinstance(error, NotReadyError):
            # Erased rows do not stay in memory because no snapshot can replace theirs.
            self._snapshot = None
        self._changed.notify_all()


def _unreadable(error: Exception) -> NotReadyError:
    not_ready = NotReadyError("the store cannot be read now")
    not_ready.__cause__ = error
    return not_ready


def _no_rows() -> NotReadyError:
    return NotReadyError("the store holds no rows: ingest some first")
