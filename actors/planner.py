"""Which cluster is tuned next."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from actors.jobs import TuningJob
from actors.log_replay import Attempts
from lmeraser.config import TuningConfig
from lmeraser.state.cluster_entry import ClusterEntry
from lmeraser.state.commit import Commit

# An owner that died needs seconds to restart, and until then calls fail at once: six attempts take 15 s.
ATTEMPTS = 6
MIN_BACKOFF_S = 0.5
STORE_PAUSE_S = 1.0
_NO_DEADLINE = "~"  # sorts after every date


@dataclass
class Planner:
    """The clusters that await a tuning.

    A cluster is one entry, so all requests that touch it while it waits or is tuned share one tuning. A tuning that
    fails is tried again after a pause, and does not hold up the others.

    Attributes:
        tunes: whether a cluster with this many rows is tuned at all (StateConfig.tunes).
        tuning: what a tuning costs.
        attempts: failed tunings according to the log, by the digest of the coreset.
        clock: seconds that only grow.
    """

    tunes: Callable[[int], bool]
    tuning: TuningConfig
    attempts: Mapping[str, Attempts]
    clock: Callable[[], float] = time.monotonic
    _not_before: dict[str, float] = field(default_factory=dict)

    def awaiting(self, commit: Commit) -> list[ClusterEntry]:
        """Clusters that are to be tuned, now or after a pause."""
        return [entry for entry in self._untuned(commit) if self._count(entry.coreset_leaf) < ATTEMPTS]

    def ready(self, commit: Commit, deadlines: Mapping[str, str]) -> list[ClusterEntry]:
        """Clusters that can be tuned now: earliest deadline first, then the cheapest (in row-passes).

        Args:
            commit: the newest commit.
            deadlines: the earliest deadline by cluster key, ISO 8601 in UTC; clusters without one come last.
        """
        now = self.clock()
        ready = (entry for entry in self.awaiting(commit) if self._not_before.get(entry.coreset_leaf, now) <= now)
        return sorted(
            ready, key=lambda entry: (deadlines.get(entry.key, _NO_DEADLINE), self.row_passes(entry), entry.key)
        )

    def pause(self, job: TuningJob, is_transient: bool = False) -> None:
        """Pause the tuning on this coreset: 0.5 s after the first failed attempt, then twice as long each time.

        A transient failure, such as a full disk, does not count as an attempt: it is retried until it succeeds.
        """
        pause_s = STORE_PAUSE_S if is_transient else MIN_BACKOFF_S * 2 ** (self._count(job.entry.coreset_leaf) - 1)
        now = self.clock()
        self._not_before = {leaf: until for leaf, until in self._not_before.items() if until > now}
        self._not_before[job.entry.coreset_leaf] = now + pause_s

    def hurry(self) -> None:
        """End all pauses."""
        self._not_before.clear()

    def given_up(self, commit: Commit) -> dict[str, str]:
        """Clusters whose tuning kept failing, with the last reason."""
        return {
            entry.key: self.attempts[entry.coreset_leaf].reason
            for entry in self._untuned(commit)
            if self._count(entry.coreset_leaf) >= ATTEMPTS
        }

    def _untuned(self, commit: Commit) -> list[ClusterEntry]:
        return [entry for entry in commit.clusters if entry.state(self.tunes) == "awaits tuning"]

    def row_passes(self, entry: ClusterEntry) -> int:
        """Those of a tuning, where it has no prompt, and of the rows that are to be embedded; 0 if it is too small."""
        if entry.state(self.tunes) != "awaits tuning":
            return 0
        embedded = sum(segment.rows for segment in entry.unembedded)
        if entry.prompt_object is not None:
            return embedded
        return 2 * self.tuning.epochs * min(entry.rows, self.tuning.coreset_rows) + embedded

    def _count(self, coreset_leaf: str) -> int:
        failed = self.attempts.get(coreset_leaf)
        return failed.count if failed is not None else 0
