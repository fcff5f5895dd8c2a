"""The coordinator's metrics in Ray. They never contain the id of a row, a subject or a request."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Sequence
from datetime import datetime
from typing import get_args

from ray.util.metrics import Counter, Gauge, Histogram

from actors.coordinator_status import CoordinatorStatus
from lmeraser.deletion import Deletion, Status

_SECONDS = [0.2, 0.5, 1, 2, 5, 10, 30, 60, 300]


class CoordinatorMetrics:
    """The metrics of one coordinator."""

    def __init__(self, deletions: Sequence[Deletion]) -> None:
        """Start from the existing deletions: their times to "erased" were reported before."""
        self._erased = {deletion.id for deletion in deletions if deletion.erased_at is not None}
        self._tunings_seen = 0
        self._deletions = Gauge("lmeraser_deletions", "Deletions, by state.", tag_keys=("state",))
        self._held_up = Gauge("lmeraser_deletions_held_up", "Deletions whose rows could not be erased yet.")
        self._time_to_erased_s = Histogram(
            "lmeraser_time_to_erased_seconds", "Seconds from accepted to erased.", boundaries=_SECONDS
        )
        self._tunings = Counter("lmeraser_tunings", "Tunings that produced a specialist.")
        self._waiting = Gauge("lmeraser_tunings_waiting", "Clusters that wait to be tuned.")
        self._running = Gauge("lmeraser_tunings_running", "Clusters that are being tuned.")
        self._given_up = Gauge("lmeraser_tunings_failed", "Clusters whose tuning failed too often and was given up.")
        self._rows = Gauge("lmeraser_rows", "Private rows that the system holds.")
        self._clusters = Gauge("lmeraser_clusters", "Prompt clusters of the newest commit.")

    def report(self, deletions: Sequence[Deletion], status: CoordinatorStatus) -> None:
        """Report the deletions that are not archived, and the coordinator's status."""
        tally = Tally(deletion.status for deletion in deletions)
        tally["completed"] += status.archived
        for state in get_args(Status):
            self._deletions.set(tally[state], {"state": state})
        for deletion in deletions:
            if deletion.erased_at is not None and deletion.id not in self._erased:
                self._erased.add(deletion.id)
                self._time_to_erased_s.observe(_seconds(deletion.accepted_at, deletion.erased_at))
        if status.tunings > self._tunings_seen:
            self._tunings.inc(status.tunings - self._tunings_seen)
            self._tunings_seen = status.tunings
        self._held_up.set(len(status.held_up))
        self._waiting.set(len(status.awaiting) - len(status.running))
        self._running.set(len(status.running))
        self._given_up.set(len(status.failed))
        self._rows.set(status.rows)
        self._clusters.set(status.clusters)


def _seconds(start: str, end: str) -> float:
    # The clock may have been set back between the two.
    return max(0.0, (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds())
