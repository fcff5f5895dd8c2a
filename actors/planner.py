"""Which cluster is tuned next."""

from __future__ import annotations

from dataclasses import dataclass, field

from actors.owner import TuningJob
from lmeraser.commit import ClusterEntry, Commit

ATTEMPTS = 3


@dataclass
class Planner:
    """Clusters that await a tuning.

    A cluster is one entry, however many requests touch it while it waits or tunes: they share a tuning.

    Attributes:
        min_tuned_rows: a cluster with fewer rows is never tuned.
        passes: passes of one tuning.
    """

    min_tuned_rows: int
    passes: int
    _failures: dict[str, list[str]] = field(default_factory=dict)

    def awaiting(self, commit: Commit) -> list[ClusterEntry]:
        """Clusters that are to be tuned, cheapest (rows × passes) first."""
        waiting = (
            entry
            for entry in commit.clusters
            if entry.specialist_object is None
            and entry.rows >= self.min_tuned_rows
            and len(self._failures.get(entry.rows_leaf, ())) < ATTEMPTS
        )
        return sorted(waiting, key=lambda entry: (entry.rows * self.passes, entry.key))

    def failed(self, job: TuningJob, reason: str) -> None:
        """Note that a tuning of these rows failed."""
        self._failures.setdefault(job.rows_leaf, []).append(reason)

    def given_up(self, commit: Commit) -> dict[str, str]:
        """Clusters whose tuning kept failing, with the last reason."""
        return {
            entry.key: reasons[-1]
            for entry in commit.clusters
            if entry.specialist_object is None and len(reasons := self._failures.get(entry.rows_leaf, [])) >= ATTEMPTS
        }
