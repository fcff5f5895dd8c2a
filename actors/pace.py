"""How fast clusters are tuned here: measured, so that a preview can say how long a deletion will take."""

from __future__ import annotations

import time
from collections.abc import Callable

from actors.jobs import EmbeddingJob, TuningJob
from lmeraser.config import TuningConfig


class Pace:
    """The row-passes of the tunings that have ended, and the seconds that they took."""

    def __init__(self, tuning: TuningConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._tuning = tuning
        self._clock = clock
        self._begun_s: dict[TuningJob, float] = {}
        self._row_passes = 0
        self._seconds = 0.0

    def begin(self, job: TuningJob) -> None:
        """A job begins."""
        self._begun_s[job] = self._clock()

    def end(self, job: TuningJob, *, done: bool) -> None:
        """A job has ended; ``done`` says whether it wrote what it was to write."""
        begun_s = self._begun_s.pop(job, None)
        if done and begun_s is not None:
            self._seconds += self._clock() - begun_s
            self._row_passes += self._row_passes_of(job)

    def seconds(self, row_passes: int) -> float | None:
        """How long one owner takes for so many row-passes; None before the first tuning has ended."""
        if not row_passes:
            return 0.0
        return row_passes * self._seconds / self._row_passes if self._row_passes else None

    def _row_passes_of(self, job: TuningJob) -> int:
        if isinstance(job, EmbeddingJob):
            return sum(segment.rows for segment in job.segments)
        return 2 * self._tuning.epochs * min(job.entry.rows, self._tuning.coreset_rows)
