"""Which cluster is tuned next."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from actors.owner import TuningJob
from lmeraser.commit import ClusterEntry, Commit

# An owner that died needs seconds to be back, and its calls fail at once until then: six attempts take 15 s.
ATTEMPTS = 6
FIRST_PAUSE_S = 0.5
STORE_PAUSE_S = 1.0
_NO_DEADLINE = "~"  # sorts after every date


@dataclass(frozen=True)
class _Failures:
    count: int
    reason: str
    not_before: float


@dataclass
class Planner:
    """Clusters that await a tuning.

    A cluster is one entry, however many requests touch it while it waits or tunes: they share a tuning. One that fails
    is tried again after a pause, and holds up no other.

    Attributes:
        min_tuned_rows: a cluster with fewer rows is never tuned.
        passes: passes of one tuning.
        clock: seconds that only grow.
    """

    min_tuned_rows: int
    passes: int
    clock: Callable[[], float] = time.monotonic
    _failures: dict[str, _Failures] = field(default_factory=dict)

    def awaiting(self, commit: Commit) -> list[ClusterEntry]:
        """Clusters that are to be tuned, now or after a pause."""
        return [entry for entry in self._untuned(commit) if self._attempts(entry) < ATTEMPTS]

    def ready(self, commit: Commit, deadlines: Mapping[str, str]) -> list[ClusterEntry]:
        """Clusters that can be tuned now: by deadline, then the cheapest (rows × passes) first.

        Args:
            commit: the newest.
            deadlines: the earliest deadline by cluster key, ISO 8601 in UTC; clusters without one come last.
        """
        now = self.clock()
        ready = (
            entry
            for entry in self.awaiting(commit)
            if (failures := self._failures.get(entry.rows_leaf)) is None or failures.not_before <= now
        )
        return sorted(
            ready, key=lambda entry: (deadlines.get(entry.key, _NO_DEADLINE), entry.rows * self.passes, entry.key)
        )

    def failed(self, job: TuningJob, reason: str, may_pass: bool = False) -> None:
        """Note that a tuning of these rows failed; the next attempt waits 0.5 s, then twice as long each time.

        A failure that may pass, such as a full disk, is no attempt: it is tried again until it succeeds.
        """
        before = self._failures.get(job.rows_leaf)
        count = (before.count if before is not None else 0) + (not may_pass)
        pause_s = STORE_PAUSE_S if may_pass else FIRST_PAUSE_S * 2 ** (count - 1)
        self._failures[job.rows_leaf] = _Failures(count, reason, self.clock() + pause_s)

    def given_up(self, commit: Commit) -> dict[str, str]:
        """Clusters whose tuning kept failing, with the last reason."""
        return {
            entry.key: self._failures[entry.rows_leaf].reason
            for entry in self._untuned(commit)
            if self._attempts(entry) >= ATTEMPTS
        }

    def retry(self, commit: Commit, keys: Collection[str]) -> None:
        """Forget the failures of these clusters."""
        for entry in commit.clusters:
            if entry.key in keys:
                self._failures.pop(entry.rows_leaf, None)

    def _untuned(self, commit: Commit) -> list[ClusterEntry]:
        return [
            entry for entry in commit.clusters if entry.specialist_object is None and entry.rows >= self.min_tuned_rows
        ]

    def _attempts(self, entry: ClusterEntry) -> int:
        failures = self._failures.get(entry.rows_leaf)
        return failures.count if failures is not None else 0
