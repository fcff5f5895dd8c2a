"""Seconds of the steps that the system announces (actors.fail_points)."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from typing import Any

from actors.fail_points import EVENT


class StepClock:
    """Adds up, for each step, the seconds since the step before it was done. An audit hook cannot be removed."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)
        self._previous_s = time.monotonic()
        sys.addaudithook(self._note)

    def restart(self) -> None:
        """Forget what was added up."""
        self._seconds.clear()
        self._previous_s = time.monotonic()

    def seconds(self) -> dict[str, float]:
        """Seconds of each step since."""
        return dict(self._seconds)

    def _note(self, event: str, details: tuple[Any, ...]) -> None:
        if event == EVENT:
            now_s = time.monotonic()
            self._seconds[details[0]] += now_s - self._previous_s
            self._previous_s = now_s
