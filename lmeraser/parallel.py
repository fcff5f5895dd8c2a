"""Work side by side in threads that are kept: for requests to a store, of which each may take tens of milliseconds."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import cache
from typing import TypeVar

_Value = TypeVar("_Value")
_Result = TypeVar("_Result")

# An erasure makes dozens of such calls; to start threads for each would take it longer than a local disk does.
THREADS = 32
_here = threading.local()


def in_parallel(work: Callable[[_Value], _Result], values: Iterable[_Value]) -> list[_Result]:
    """The results of the work on each value, in the order of the values.

    At most ``THREADS`` pieces of work run at a time in a process. Work that calls this again does so one piece after
    the other.

    Raises:
        Exception: what the first piece of work to fail raised, after every other piece that had begun has ended; the
            rest is not begun.
    """
    values = list(values)
    if len(values) < 2 or getattr(_here, "is_kept", False):
        return [work(value) for value in values]
    begun = [_threads().submit(work, value) for value in values]
    wait(begun, return_when=FIRST_EXCEPTION)
    for piece in begun:
        piece.cancel()
    wait(begun)
    return [piece.result() for piece in begun]


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="parallel", initializer=_keep)


def _keep() -> None:
    _here.is_kept = True


# Threads do not survive a fork.
os.register_at_fork(after_in_child=_threads.cache_clear)
