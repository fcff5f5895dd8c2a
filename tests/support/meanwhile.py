"""Background work during a test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def meanwhile(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run the work in a thread for the length of the block; its end sets the event, and the work's error is raised."""
    stop = threading.Event()
    with ThreadPoolExecutor(1) as thread:
        working = thread.submit(work, stop)
        try:
            yield
        finally:
            stop.set()
            working.result()
