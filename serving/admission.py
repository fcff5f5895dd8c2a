"""How many requests a replica takes on at a time; it refuses the rest itself, with a problem document."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lmeraser.errors import OverloadedError


class Admission:
    """Counts the requests that are being answered. Used on one event loop, so without a lock."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._admitted = 0

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Occupy a slot while the block runs.

        Raises:
            OverloadedError: when all slots are occupied.
        """
        if self._admitted >= self._limit:
            raise OverloadedError(f"{self._admitted} requests are being answered, the most that one replica takes on")
        self._admitted += 1
        try:
            yield
        finally:
            self._admitted -= 1
