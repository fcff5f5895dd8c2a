"""The original cause of an exception with tracebacks of other processes is described."""

from __future__ import annotations

import pytest
from ray.exceptions import RayTaskError
from ray.train import ControllerError, WorkerGroupError

from cluster.causes import described

DIED = """The actor died because of an error raised in its creation task
  File "owner.py", line 3, in __init__
    raise ValueError("no such device")
ValueError: no such device"""


def crossed(cause: Exception) -> RayTaskError:
    return RayTaskError("task", "ray::task() (pid=7)\nTraceback (most recent call last):\nKeyError: 1", cause)


@pytest.mark.parametrize(
    ("error", "description"),
    [
        (crossed(OSError(28, "No space left on device")), "OSError: [Errno 28] No space left on device"),
        (crossed(crossed(ValueError("two\nlines"))), "ValueError: two\nlines"),
        (crossed(MemoryError()), "MemoryError"),
        (WorkerGroupError("[Rank 0 Error Snippet]:\nTraceback", {0: ValueError("bad row 3")}), "ValueError: bad row 3"),
        (ControllerError(crossed(TimeoutError("no worker"))), "TimeoutError: no worker"),
        (
            RuntimeError(DIED),
            "The actor died because of an error raised in its creation task ValueError: no such device",
        ),
    ],
    ids=["task", "nested", "no message", "training", "controller", "text"],
)
def test_the_original_exception_is_described(error: Exception, description: str) -> None:
    assert described(error) == description
