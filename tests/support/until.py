"""Waiting for what happens elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def until(found: Callable[[], Found | None], longest_s: float) -> Found:
    """What it finds, once it finds something."""
    last = time.monotonic() + longest_s
    while (one := found()) is None:
        assert time.monotonic() < last, "it did not come to pass"
        time.sleep(0.02)
    return one
