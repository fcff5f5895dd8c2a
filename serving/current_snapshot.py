"""The snapshot that answers now: loaded in the background, and given out only while its commit's lease holds."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from lmeraser.errors import LMEraserError, NotReadyError
from lmeraser.state.commit import Commit
from serving.lease import Lease
from serving.renewal import Renewal
from serving.snapshot import Snapshot

# A request waits so long for a snapshot that may answer, and a commit that cannot be loaded so long for its next
# attempt.
_PATIENCE_S = 5.0
_AGAIN_S = 2.0

logger = logging.getLogger(__name__)


class CurrentSnapshot:
    """Keeps the snapshot of the newest commit loaded, on threads of its own. Used by several threads."""

    def __init__(self, lease: Lease, load: Callable[[Commit, Snapshot | None], Snapshot]) -> None:
        """Nothing is done before :meth:`start`.

        Args:
            lease: says which commit is the newest, and which may answer.
            load: gives the snapshot of a commit, and may take parts from the one before.
        """
        self._lease = lease
        self._load = load
        self._renewal = Renewal(lease, self._looked)
        self._changed = threading.Condition()
        self._snapshot: Snapshot | None = None
        # When the latest look was sent that succeeded, that failed (and why), and which commit has no snapshot (and
        # why).
        self._seen_at = -1.0
        self._unseen: tuple[float, Exception] | None = None
        self._unloadable: tuple[int, Exception] | None = None
        # Nothing has come since a request lost its patience: those that follow need not lose theirs one by one.
        self._silent = False
        self._stopped = False

    def start(self) -> None:
        """Begin; returns once there is a snapshot, or a reason why there is none yet."""
        self._renewal.start()
        threading.Thread(target=self._keep_loaded, name="snapshot", daemon=True).start()
        with self._changed:
            self._changed.wait_for(lambda: self._snapshot is not None or self._reason(0.0) is not None)

    def stop(self) -> None:
        """End the threads. What they wait for of the store is not waited for."""
        self._renewal.stop()
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def get(self) -> Snapshot:
        """A snapshot that may answer now; waits for nothing.

        Raises:
            NotReadyError: when there is none.
        """
        with self._changed:
            if (snapshot := self._usable()) is not None:
                return snapshot
            raise self._reason(0.0) or NotReadyError("the newest commit is being loaded")

    def awaited(self) -> Snapshot:
        """A snapshot that may answer now; waits some seconds for it where a look or a snapshot is on its way.

        Raises:
            NotReadyError: when there is none.
        """
        asked_at = time.monotonic()
        with self._changed:
            while (snapshot := self._usable()) is None:
                if (reason := self._reason(asked_at)) is not None:
                    raise reason
                self._wait(asked_at)
            return snapshot

    def newest(self) -> Commit:
        """The newest commit, as seen by a look that was sent after this was called.

        Raises:
            NotReadyError: when there is none, or the store cannot be read.
        """
        asked_at = time.monotonic()
        with self._changed:
            while self._seen_at < asked_at:
                if self._unseen is not None and self._unseen[0] >= asked_at:
                    raise _unreadable(self._unseen[1])
                self._wait(asked_at)
            if self._lease.newest is None:
                raise _no_rows()
            return self._lease.newest

    def _usable(self) -> Snapshot | None:
        snapshot = self._snapshot
        return snapshot if snapshot is not None and self._lease.holds(snapshot.commit.number) else None

    def _reason(self, asked_at: float) -> NotReadyError | None:
        """Why no snapshot may answer; None where what has come since ``asked_at`` leaves hope."""
        newest = self._lease.newest
        if self._unseen is not None and self._unseen[0] >= max(asked_at, self._seen_at):
            return _unreadable(self._unseen[1])
        if newest is None:
            return _no_rows() if self._seen_at >= asked_at else None
        if self._unloadable is not None and self._unloadable[0] == newest.number:
            error = self._unloadable[1]
            return NotReadyError(str(error)) if isinstance(error, NotReadyError) else _unreadable(error)
        return None

    def _wait(self, asked_at: float) -> None:
        left_s = asked_at + _PATIENCE_S - time.monotonic()
        if self._silent or not self._changed.wait(max(left_s, 0)):
            self._silent = True
            raise NotReadyError(f"no commit could be seen and loaded within {_PATIENCE_S:g} s")

    def _looked(self, sent_at: float, failure: Exception | None) -> None:
        with self._changed:
            self._silent = False
            if failure is None:
                self._seen_at = max(self._seen_at, sent_at)
            elif self._unseen is None or self._unseen[0] < sent_at:
                self._unseen = sent_at, failure
            self._changed.notify_all()

    def _keep_loaded(self) -> None:
        while (commit := self._next_commit()) is not None:
            failure: Exception | None = None
            try:
                snapshot = self._load(commit, self._snapshot)
            except LMEraserError as error:
                failure = error
            except Exception as error:
                logger.exception("commit %d could not be loaded", commit.number)
                failure = error
            with self._changed:
                if failure is None:
                    self._snapshot, self._unloadable = snapshot, None
                    self._changed.notify_all()
                else:
                    self._failed(commit, failure)

    def _next_commit(self) -> Commit | None:
        """The newest commit, once it is not the snapshot's; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._is_behind())
            return None if self._stopped else self._lease.newest

    def _is_behind(self) -> bool:
        newest = self._lease.newest
        return newest is not None and (self._snapshot is None or self._snapshot.commit.number != newest.number)

    def _failed(self, commit: Commit, error: Exception) -> None:
        """Go on to a newer commit, which may have swept this one's objects away; without one, wait a while."""

        def is_newest() -> bool:
            return self._lease.newest is None or self._lease.newest.number == commit.number

        failed_at = time.monotonic()
        self._changed.wait_for(
            lambda: self._stopped or self._seen_at >= failed_at or (self._unseen or (0.0,))[0] >= failed_at
        )
        if not is_newest():
            return
        self._unloadable = commit.number, error
        superseded = self._snapshot is not None and self._lease.superseded(self._snapshot.commit.number)
        if superseded and isinstance(error, NotReadyError):
            # What was erased does not stay in memory because there is nothing to take its place.
            self._snapshot = None
        self._changed.notify_all()
        self._changed.wait_for(lambda: self._stopped or not is_newest(), timeout=_AGAIN_S)


def _unreadable(error: Exception) -> NotReadyError:
    told = NotReadyError("the store cannot be read now")
    told.__cause__ = error
    return told


def _no_rows() -> NotReadyError:
    return NotReadyError("the store holds no rows: ingest some first")
