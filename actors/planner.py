"""Which cluster is tuned next."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from actors.log_replay import Attempts
from actors.owner import TuningJob
from lmeraser.state.commit import ClusterEntry, Commit

# An owner that died needs seconds to be back, and its calls fail at once until then: six attempts take 15 s.
ATTEMPTS = 6
FIRST_PAUSE_S = 0.5
STORE_PAUSE_S = 1.0
_NO_DEADLINE = "~"  # sorts after every date


@dataclass
class Planner:
    """Clusters that await a tuning.

    A cluster is one entry, however many requests touch it while it waits or tunes: they share a tuning. One that fails
    is tried again after a pause, and holds up no other.

    Attributes:
        tunes: whether a cluster with this many rows is tuned at all (StateConfig.tunes).
        epochs: epochs of one tuning.
        attempts: what the log says of tunings that failed, by the digest of the rows.
        clock: seconds that only grow.
    """

    tunes: Callable[[int], bool]
    epochs: int
    attempts: Mapping[str, Attempts]
    clock: Callable[[], float] = time.monotonic
    _not_before: dict[str, float] = field(default_factory=dict)

    def awaiting(self, commit: Commit) -> list[ClusterEntry]:
        """Clusters that are to be tuned, now or after a pause."""
        return [entry for entry in self._untuned(commit) if self._count(entry.rows_leaf) < ATTEMPTS]

    def ready(self, commit: Commit, deadlines: Mapping[str, str]) -> list[ClusterEntry]:
        """Clusters that can be tuned now: by deadline, then the cheapest (rows × `epochs`) first.

        Args:
            commit: the newest.
            deadlines: the earliest deadline by cluster key, ISO 8601 in UTC; clusters without one come last.
        """
        now = self.clock()
        ready = (entry for entry in self.awaiting(commit) if self._not_before.get(entry.rows_leaf, now) <= now)
        return sorted(
            ready, key=lambda entry: (deadlines.get(entry.key, _NO_DEADLINE), entry.rows * self.epochs, entry.key)
        )

    def pause(self, job: TuningJob, is_transient: bool = False) -> None:
        """Leave these rows alone for a while: after their first failed attempt 0.5 s, then twice as long each time.

        A failure that may pass, such as a full disk, is no attempt: it is tried again until it succeeds.
        """
        pause_s = STORE_PAUSE_S if is_transient else FIRST_PAUSE_S * 2 ** (self._count(job.rows_leaf) - 1)
        now = self.clock()
        self._not_before = {leaf: until for leaf, until in self._not_before.items() if until > now}
        self._not_before[job.rows_leaf] = now + pause_s

    def hurry(self) -> None:
        """End all pauses."""
        self._not_before.clear()

    def given_up(self, commit: Commit) -> dict[str, str]:
        """Clusters whose tuning kept failing, with the last reason."""
        return {
            entry.key: self.attempts[entry.rows_leaf].reason
            for entry in self._untuned(commit)
            if self._count(entry.rows_leaf) >= ATTEMPTS
        }

    def _untuned(self, commit: Commit) -> list[ClusterEntry]:
        return [entry for entry in commit.clusters if entry.specialist_object is None and self.tunes(entry.rows)]

    def _count(self, rows_leaf: str) -> int:
        failed = self.attempts.get(rows_leaf)
        return failed.count if failed is not None else 0
