"""How often something may be done: so many times at once, then once in a while."""

from __future__ import annotations

from collections.abc import Callable

from lmeraser.errors import RateLimitError


class Allowance:
    """A token bucket for requests that name no row of the system. Not safe to use from several threads at once."""

    def __init__(self, at_once: int, every_s: float, clock: Callable[[], float]) -> None:
        """Full at the start.

        Args:
            at_once: how many requests may come at once.
            every_s: seconds after which one more may come.
            clock: seconds that only grow.
        """
        self._at_once = at_once
        self._every_s = every_s
        self._clock = clock
        self._left = float(at_once)
        self._counted_s = clock()

    def take(self) -> None:
        """Count one request. Raises RateLimitError when there were too many."""
        now_s = self._clock()
        self._left = min(float(self._at_once), self._left + (now_s - self._counted_s) / self._every_s)
        self._counted_s = now_s
        if self._left < 1:
            raise RateLimitError(
                f"too many deletions that name no row of the system: allowed are {self._at_once} at once, then "
                f"one every {self._every_s:.0f} s. Name several ids in one request"
            )
        self._left -= 1
