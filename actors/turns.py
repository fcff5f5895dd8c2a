"""Work and decisions by turns: a decision about the newest commit must stay right until it is recorded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from lmeraser.errors import NotReadyError

# Callers give up after half a minute.
LONGEST_S = 20.0


class Turns:
    """One thread works, piece by piece; others decide between two pieces. Who waits to decide comes first."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._working = False
        self._deciding = False
        self._waiting = 0

    @contextmanager
    def work(self) -> Iterator[None]:
        """A piece of work: it begins once nobody decides, or waits to."""
        with self._changed:
            while self._deciding or self._waiting:
                self._changed.wait()
            self._working = True
        try:
            yield
        finally:
            self._end()

    @contextmanager
    def decision(self) -> Iterator[None]:
        """A decision: no work is under way meanwhile, and nobody else decides.

        Raises:
            NotReadyError: when a piece of work takes too long, such as a large ingest, which makes a preview stale.
        """
        with self._changed:
            self._waiting += 1
            try:
                if not self._changed.wait_for(lambda: not (self._working or self._deciding), LONGEST_S):
                    raise NotReadyError(
                        f"the coordinator works on something else for {LONGEST_S:g} s: nothing was begun; try again"
                    )
                self._deciding = True
            finally:
                self._waiting -= 1
                self._changed.notify_all()
        try:
            yield
        finally:
            self._end()

    def _end(self) -> None:
        with self._changed:
            self._working = self._deciding = False
            self._changed.notify_all()
