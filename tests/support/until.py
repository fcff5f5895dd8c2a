"""Waiting for something that another thread or process does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")
# A poll may read the whole process table or ask another process, which takes processor time from what is waited for.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.02, 0.2


def until(poll: Callable[[], Result | None], longest_s: float, longest_pause_s: float = LONGEST_PAUSE_S) -> Result:
    """Poll until there is a result, and return it; fail after ``longest_s`` seconds.

    Pauses grow with the time waited, to a tenth of it, and to ``longest_pause_s`` at most.
    """
    began = time.monotonic()
    while (result := poll()) is None:
        waited_s = time.monotonic() - began
        assert waited_s < longest_s, f"nothing after {longest_s} s"
        time.sleep(min(max(FIRST_PAUSE_S, waited_s / 10), longest_pause_s))
    return result
