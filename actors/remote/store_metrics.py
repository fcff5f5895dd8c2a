"""What a process reports to Ray's metrics of its store, and the coordinator of its log. Never a name of an object."""

from __future__ import annotations

import json

from ray.util.metrics import Gauge, Histogram

from lmeraser.state.layout import CHECKPOINTS, LOG
from lmeraser.store.observed import StoreCall

_SECONDS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10]
_BYTES = [2.0**10, 2.0**12, 2.0**14, 2.0**16, 1e5, 2.0**18, 2.0**20, 2.0**22, 2.0**24]


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


class LogMetrics:
    """How long the log is, and what its records weigh, from the calls of the coordinator's store."""

    def __init__(self) -> None:
        self._head = self._checkpoint = 0
        self._length = Gauge("lmeraser_log_records", "Number of the log's last record.")
        self._since = Gauge("lmeraser_log_records_since_checkpoint", "Records after the newest checkpoint.")
        self._bytes = Histogram(
            "lmeraser_log_record_bytes", "Bytes of an appended record, by kind.", boundaries=_BYTES, tag_keys=("kind",)
        )

    def observe(self, call: StoreCall) -> None:
        """Report a call that reads or writes a checkpoint, or appends a record; the first append is at the start."""
        if call.data is None:
            return
        if call.name.startswith(CHECKPOINTS):
            # The newest checkpoint is read first; one that is read after it replaces it because it was damaged.
            self._checkpoint = _number(call.name)
        elif call.operation == "put_if_absent" and call.name.startswith(LOG):
            self._head = _number(call.name)
            self._bytes.observe(len(call.data), {"kind": json.loads(call.data)["kind"]})
        else:
            return
        self._length.set(self._head)
        self._since.set(max(0, self._head - self._checkpoint))


def _number(name: str) -> int:
    return int(name.rpartition("/")[2].removesuffix(".json"))
