"""The serving fence: which commit a replica may answer from now.

A replica answers from commit n only if within the last ``lease_s`` it saw in the store that the log has no
newer commit. The registrar waits ``lease_s`` after it has appended a commit, so that no answer from the
commit before is given after that, whether or not the replica is known, frozen, new or cut off.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from lmeraser.commit import Commit
from lmeraser.errors import LogError
from lmeraser.log import Log
from lmeraser.store import Store


class Lease:
    """When each commit was last seen to be the newest. Safe to use from several threads."""

    def __init__(self, store: Store, lease_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Start without having seen anything.

        Args:
            store: holds the log.
            lease_s: for how long what was seen allows to answer.
            clock: seconds that only grow, of this process.
        """
        self._store = store
        self._lease_s = lease_s
        self._clock = clock
        self._lock = threading.Lock()
        self._log = Log(store)
        self._newest: Commit | None = None
        self._seen_at: dict[int, float] = {}

    def holds(self, number: int, share: float = 1.0) -> bool:
        """Whether less than a ``share`` of the lease on commit ``number`` has run; at 1, whether it may answer now."""
        seen_at = self._seen_at.get(number)
        return seen_at is not None and self._clock() - seen_at < self._lease_s * share

    def age_s(self, number: int) -> float | None:
        """Seconds since commit ``number`` was seen to be the newest; None when that was too long ago to be kept."""
        seen_at = self._seen_at.get(number)
        return None if seen_at is None else self._clock() - seen_at

    def look(self) -> Commit | None:
        """Look for the newest commit in the store; None when there is none yet.

        Raises:
            StoreError: when the store cannot be read.
            LogError: when the log's chain does not hold.
        """
        with self._lock:
            sent_at = self._clock()
            try:
                for record in self._log.advance():
                    if record.kind == "commit":
                        self._newest = Commit.from_record(record)
            except LogError:
                # The position may lie beyond commits that were not taken in: begin again.
                self._log, self._newest = Log(self._store), None
                raise
            if self._newest is not None:
                number = self._newest.number
                self._seen_at = {
                    **{other: at for other, at in self._seen_at.items() if sent_at - at < self._lease_s},
                    number: sent_at,
                }
            return self._newest
