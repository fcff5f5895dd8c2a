"""What a process reports to Ray's metrics of its store. Never a name of an object."""

from __future__ import annotations

from ray.util.metrics import Histogram

from lmeraser.store.observed import StoreCall

_SECONDS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10]


class StoreMetrics:
    """How long the calls of one process's store take, and how many fail."""

    def __init__(self, process: str) -> None:
        """``process`` is "coordinator" or "replica"."""
        self._process = process
        self._seconds = Histogram(
            "lmeraser_store_seconds",
            "Seconds of a call of the store, by process, operation and outcome.",
            boundaries=_SECONDS,
            tag_keys=("process", "operation", "outcome"),
        )

    def observe(self, call: StoreCall) -> None:
        """Report a call."""
        outcome = "failed" if call.failed else "ok"
        tags = {"process": self._process, "operation": call.operation, "outcome": outcome}
        self._seconds.observe(call.seconds, tags)
