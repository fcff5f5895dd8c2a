"""What a user is told of an exception that ended a command."""

from __future__ import annotations

import sys

from cluster.causes import cause_of, described
from lmeraser.errors import LMEraserError


def told(error: Exception) -> LMEraserError | None:
    """The error to print, with the cause of what crossed Ray; None for what only a traceback can explain."""
    cause = cause_of(error)
    if isinstance(cause, LMEraserError):
        return cause
    if isinstance(error, LMEraserError):
        return error
    # Commands that need no Ray do not load it.
    exceptions = sys.modules.get("ray.exceptions")
    if exceptions is None or not isinstance(error, exceptions.RayError):
        return None
    return LMEraserError(f"Ray: {described(error)}")
