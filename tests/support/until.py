"""Waiting for something that another thread or process does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def until(poll: Callable[[], Result | None], longest_s: float) -> Result:
    """Poll until there is a result, and return it; fail after ``longest_s`` seconds."""
    deadline = time.monotonic() + longest_s
    while (result := poll()) is None:
        assert time.monotonic() < deadline, f"nothing after {longest_s} s"
        time.sleep(0.02)
    return result
