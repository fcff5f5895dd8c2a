"""Rate limit for ids that the system does not hold: a burst at once, then a steady rate.

Each such id leaves its keyed hash in the log for ever, and each request leaves records and a receipt.
"""

from __future__ import annotations

from collections.abc import Callable

from lmeraser.errors import RateLimitError

# One request of the maximum size, or a hundred that name a few ids each; then one of these every ten seconds.
BURST = 100_000
PER_SECOND = 100
# The minimum cost of a request that names no row at all, however few ids it has.
MIN_COST = 1_000


class Allowance:
    """A token bucket of unknown ids. Not thread-safe."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Start with a full bucket; ``clock`` gives seconds that only grow."""
        self._clock = clock
        self._tokens = float(BURST)
        self._updated_s = clock()

    def take(self, unknown: int, rows: int) -> None:
        """Take the tokens of a request.

        A request that covers rows may overdraw the bucket once over, so that earlier requests without rows do not hold
        it up.

        Args:
            unknown: how many of the request's ids the system does not hold.
            rows: how many rows the request covers.

        Raises:
            RateLimitError: when too many unknown ids came.
        """
        now_s = self._clock()
        self._tokens = min(float(BURST), self._tokens + (now_s - self._updated_s) * PER_SECOND)
        self._updated_s = now_s
        cost = unknown if rows else max(unknown, MIN_COST)
        if cost and self._tokens - cost < (-BURST if rows else 0):
            raise RateLimitError(
                f"too many ids that the system does not hold: allowed are {BURST} at once, then {PER_SECOND} a second, "
                f"where a request that names no row counts as {MIN_COST} at least. Name several ids in one request"
            )
        self._tokens -= cost
