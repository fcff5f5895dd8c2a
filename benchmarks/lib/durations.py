"""Seconds of deletions, and their summary."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from datetime import datetime

# A 99th percentile of fewer values would be their maximum.
_VALUES_OF_A_P99 = 100


def seconds_between(before: str | None, after: str | None) -> float:
    """Seconds between two times of a deletion."""
    assert before is not None and after is not None
    return (datetime.fromisoformat(after) - datetime.fromisoformat(before)).total_seconds()


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """Median, largest, and the 99th percentile where there are at least 100 values."""
    p99 = None
    if len(values) >= _VALUES_OF_A_P99:
        p99 = round(sorted(values)[math.ceil(0.99 * len(values)) - 1], 3)
    return {"median": round(statistics.median(values), 3), "p99": p99, "max": round(max(values), 3)}
