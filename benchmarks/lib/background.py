"""Work on another thread, and waiting for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def meanwhile(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Have a thread do the work until the block ends, which sets the event; what the work raises is raised."""
    ended = threading.Event()
    with ThreadPoolExecutor(1) as thread:
        working = thread.submit(work, ended)
        try:
            yield
        finally:
            ended.set()
            working.result()


def wait_until(condition: Callable[[], bool], poll_s: float = 0.02, timeout_s: float = float("inf")) -> None:
    """Return once the condition holds.

    Raises:
        TimeoutError: when it does not hold in time.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the condition did not hold within {timeout_s} s")
        time.sleep(poll_s)
