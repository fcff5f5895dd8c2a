"""The pauses of a coordinator that has nothing to do."""

from __future__ import annotations

import threading


class Rest:
    """Pauses that grow while nothing happens, and end when somebody wakes it. Safe to use from several threads."""

    def __init__(self, shortest_s: float) -> None:
        self._shortest_s = shortest_s
        self._woken = threading.Event()
        self._pause_s = 0.0

    def wake(self) -> None:
        """End the pause."""
        self._woken.set()

    def begin_again(self) -> None:
        """The next pause is as short as the first."""
        self._pause_s = 0.0

    def pause(self, longest_s: float) -> None:
        """Pause twice as long as the last time, and at most so long."""
        self._pause_s = min(max(2 * self._pause_s, self._shortest_s), longest_s)
        if self._woken.wait(self._pause_s):
            self._woken.clear()
            self._pause_s = 0.0
