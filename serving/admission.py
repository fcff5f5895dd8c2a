"""How many requests a replica holds at a time; it turns the others away itself, with a problem document."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lmeraser.config import ServingConfig
from lmeraser.errors import OverloadedError

# One batch runs and the next one fills; beyond, each waits at most about as long as those ahead of it take.
_BATCHES = 6
_SINGLE_IMAGES = 48


def most_requests(config: ServingConfig) -> int:
    """How many predictions one replica takes on at a time."""
    return _BATCHES * config.max_batch_images + _SINGLE_IMAGES


class Admission:
    """Counts the requests that are being answered. Used on one event loop, so without a lock."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Hold a place for as long as the body runs.

        Raises:
            OverloadedError: when all places are held.
        """
        if self._taken >= self._limit:
            raise OverloadedError(f"{self._taken} requests are being answered; that is as many as one replica takes")
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1
