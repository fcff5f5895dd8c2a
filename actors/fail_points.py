"""Fail points: the steps of a deletion between which a process may die (decision 9).

Each is announced as an audit event of the interpreter (PEP 578), ``lmeraser.boundary`` with the step's name, so that an
operator can trace a deletion, and a fault test can kill a process exactly there. ``actors.passages`` notes them for
metrics and traces; it listens directly, because a hook would be called for every audit event of the process.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import ContextVar
from enum import StrEnum

EVENT = "lmeraser.boundary"


class FailPoint(StrEnum):
    """The step that has just been done, in the order of a deletion."""

    REQUEST_RECORDED = "request recorded"
    ROWS_READ = "rows read"
    ROWS_WRITTEN = "rows written"
    REMOVED_WRITTEN = "removed features written"
    HEADS_WRITTEN = "heads written"
    COMMIT_APPENDED = "commit appended"
    LEASE_WAITED = "lease waited"
    DRAFT_ERASED = "draft erased"
    OWNERS_RETIRED = "owners retired"
    SWEPT = "swept"
    RECEIPT_WRITTEN = "receipt written"
    ERASED_RECORDED = "erased recorded"
    TUNING_STARTED = "tuning started"
    PROMPT_WRITTEN = "prompt written"
    PROMPT_COMMITTED = "prompt committed"
    FEATURES_WRITTEN = "features written"
    FEATURES_COMMITTED = "features committed"
    RECEIPT_COMPLETED = "receipt completed"
    COMPLETED_RECORDED = "completed recorded"
    ARCHIVED = "archived"
    CHECKPOINT_WRITTEN = "checkpoint written"
    SWITCH_BEGUN = "switch begun"
    SWITCH_COMMITTED = "switch committed"
    MANIFEST_REPLACED = "manifest replaced"


# Called with what this thread announces.
listener: ContextVar[Callable[[FailPoint], None] | None] = ContextVar("listener", default=None)


def fail_point(step: FailPoint) -> None:
    """Announce that a step is done."""
    if (listen := listener.get()) is not None:
        listen(step)
    sys.audit(EVENT, step.value)
