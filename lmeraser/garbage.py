"""Garbage collection while libraries are imported.

PyTorch, timm and Ray create some hundred thousand objects that last as long as the process. Collections find nothing
among them, but take a fifth of the processor time of the import, and as much again when the process ends.
"""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager

# Python's is 700 new objects.
_NEW_OBJECTS = 20_000


@contextmanager
def lasting_imports() -> Iterator[None]:
    """Collects no garbage inside the block, and never what it leaves: for imports of large libraries."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


def collect_rarely() -> None:
    """Collect garbage less often than Python does, and not at the process's end: for commands, which import a lot."""
    gc.set_threshold(_NEW_OBJECTS)
    atexit.register(gc.freeze)
