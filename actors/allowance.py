"""How many ids may be named that the system does not hold: so many at once, then a few in a while.

Each of them leaves its keyed hash in the log for ever, and each request leaves records and a receipt.
"""

from __future__ import annotations

from collections.abc import Callable

from lmeraser.errors import RateLimitError

# One request of the greatest size, or a hundred that name a few ids; then one such every ten seconds.
AT_ONCE = 100_000
A_SECOND = 100
# What a request costs that names no row at all, however few ids it has.
LEAST = 1_000


class Allowance:
    """A token bucket of unknown ids. Not safe to use from several threads at once."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Full at the start; ``clock`` gives seconds that only grow."""
        self._clock = clock
        self._left = float(AT_ONCE)
        self._counted_s = clock()

    def take(self, unknown: int, rows: int) -> None:
        """Count a request.

        One that covers rows is not held up because others named none before, unless far too much was named.

        Args:
            unknown: how many of its ids the system does not hold.
            rows: how many rows it covers.

        Raises:
            RateLimitError: when too many unknown ids came.
        """
        now_s = self._clock()
        self._left = min(float(AT_ONCE), self._left + (now_s - self._counted_s) * A_SECOND)
        self._counted_s = now_s
        cost = unknown if rows else max(unknown, LEAST)
        if cost and self._left - cost < (-AT_ONCE if rows else 0):
            raise RateLimitError(
                f"too many ids that the system does not hold: allowed are {AT_ONCE} at once, then {A_SECOND} a second, "
                f"where a request that names no row counts as {LEAST} at least. Name several ids in one request"
            )
        self._left -= cost
