"""The error message for an exception that ended a command."""

from __future__ import annotations

import sys

from cluster.causes import cause_of, described
from lmeraser.errors import LMEraserError


def reported_error(error: Exception) -> LMEraserError | None:
    """The error to print, which is the cause if the exception crossed Ray; None if only a traceback can explain it."""
    cause = cause_of(error)
    if isinstance(cause, LMEraserError):
        return cause
    if isinstance(error, LMEraserError):
        return error
    # Commands without Ray do not load it.
    exceptions = sys.modules.get("ray.exceptions")
    if exceptions is None or not isinstance(error, exceptions.RayError):
        return None
    return LMEraserError(f"Ray: {described(error)}")
