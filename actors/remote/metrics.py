"""The coordinator's metrics in Ray. They never contain the id of a row, a subject or a request.

Their number does not grow with rows, clusters or requests: each label has few values.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import get_args

from ray.util.metrics import Counter, Gauge, Histogram

from actors.coordinator_status import CoordinatorStatus
from actors.fail_points import FailPoint
from actors.passages import Passage
from lmeraser.deletion import Deletion, Status
from lmeraser.state.log import Record

_SECONDS = [0.2, 0.5, 1, 2, 5, 10, 30, 60, 300]
_BYTES = [2.0**10, 2.0**12, 2.0**14, 2.0**16, 1e5, 2.0**18, 2.0**20, 2.0**22, 2.0**24]
_STEP_SECONDS = [0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300]
# The first that was passed decides. A commit that is neither of an erasure nor of a prompt adds rows.
_KINDS = (
    (FailPoint.CHECKPOINT_WRITTEN, "checkpoint"),
    (FailPoint.LEASE_WAITED, "erase"),
    (FailPoint.PROMPT_COMMITTED, "take a prompt"),
    (FailPoint.FEATURES_COMMITTED, "take features"),
    (FailPoint.COMMIT_APPENDED, "add rows"),
    (FailPoint.COMPLETED_RECORDED, "complete"),
)


class CoordinatorMetrics:
    """The metrics of one coordinator."""

    def __init__(self, deletions: Sequence[Deletion]) -> None:
        """Start from the existing deletions: their times to "erased" were reported before."""
        self._erased = _erased_of(deletions)
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
        self._owners_seen = 0
        self._owners = Counter("lmeraser_owners_started", "Processes that were started for owners.")
        self._rows = Gauge("lmeraser_rows", "Private rows that the system holds.")
        self._clusters = Gauge("lmeraser_clusters", "Prompt clusters of the newest commit.")
        self._records = Gauge("lmeraser_log_records", "Number of the log's last record.")
        self._since = Gauge("lmeraser_log_records_since_checkpoint", "Records after the newest checkpoint.")

    def report(self, deletions: Sequence[Deletion], status: CoordinatorStatus, owners_started: int) -> None:
        """Report the deletions that are not archived, the coordinator's status, and how many owners it has started."""
        tally = Tally(deletion.status for deletion in deletions)
        tally["completed"] += status.archived
        for state in get_args(Status):
            self._deletions.set(tally[state], {"state": state})
        for deletion in deletions:
            if deletion.erased_at is not None and deletion.id not in self._erased:
                self._time_to_erased_s.observe(_seconds(deletion.accepted_at, deletion.erased_at))
        # Without those that were archived meanwhile.
        self._erased = _erased_of(deletions)
        if status.tunings > self._tunings_seen:
            self._tunings.inc(status.tunings - self._tunings_seen)
            self._tunings_seen = status.tunings
        if owners_started > self._owners_seen:
            self._owners.inc(owners_started - self._owners_seen)
            self._owners_seen = owners_started
        self._held_up.set(len(status.held_up))
        self._waiting.set(len(status.awaiting) - len(status.running))
        self._running.set(len(status.running))
        self._given_up.set(len(status.failed))
        self._rows.set(status.rows)
        self._clusters.set(status.clusters)
        self._records.set(status.log_records)
        self._since.set(status.since_checkpoint)


class StepMetrics:
    """How long the coordinator's steps take, and their parts."""

    def __init__(self) -> None:
        self._steps = Histogram(
            "lmeraser_step_seconds",
            "Seconds of a step of the coordinator, by kind.",
            boundaries=_STEP_SECONDS,
            tag_keys=("kind",),
        )
        self._parts = Histogram(
            "lmeraser_fail_point_seconds",
            "Seconds of a step of the coordinator from one fail point to the next, which is named.",
            boundaries=_STEP_SECONDS,
            tag_keys=("fail_point",),
        )

    def observe(self, step: Passage) -> None:
        """Report a step; one that found nothing to do does not count."""
        if step.idle:
            return
        self._steps.observe(step.ended_s - step.begun_s, {"kind": kind_of(step)})
        for point, before_s, passed_s in step.parts():
            self._parts.observe(passed_s - before_s, {"fail_point": point.value})


class LogMetrics:
    """What the records weigh that the coordinator appends to the log."""

    def __init__(self) -> None:
        self._bytes = Histogram(
            "lmeraser_log_record_bytes", "Bytes of an appended record, by kind.", boundaries=_BYTES, tag_keys=("kind",)
        )

    def observe(self, record: Record) -> None:
        """Report an appended record."""
        self._bytes.observe(record.size_bytes, {"kind": record.kind})


def kind_of(step: Passage) -> str:
    """What a step of the coordinator did, from the fail points that it passed."""
    passed = {point for point, _ in step.points}
    return next((kind for point, kind in _KINDS if point in passed), "other")


def _erased_of(deletions: Iterable[Deletion]) -> set[str]:
    return {deletion.id for deletion in deletions if deletion.erased_at is not None}


def _seconds(start: str, end: str) -> float:
    # The clock may have been set back between the two.
    return max(0.0, (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds())
