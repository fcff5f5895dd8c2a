"""Work beside a test's own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def meanwhile(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Have a thread do the work until the block is left, which sets the event; what the work raises is raised."""
    left = threading.Event()
    with ThreadPoolExecutor(1) as thread:
        working = thread.submit(work, left)
        try:
            yield
        finally:
            left.set()
            working.result()
