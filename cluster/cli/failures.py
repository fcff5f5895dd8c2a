"""What a user is told of an exception that ended a command."""

from __future__ import annotations

import re
import sys

from lmeraser.errors import LMEraserError

# The last line of a traceback: what was raised, and its message.
_RAISED = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception|Exit|Interrupt|Warning)\w*(?:: .*)?$")


def told(error: Exception) -> LMEraserError | None:
    """The error to print, with the cause of what crossed Ray; None for what only a traceback can explain."""
    if isinstance(error, LMEraserError):
        # One that crossed processes carries the remote traceback in its text; its cause does not.
        cause = _cause(error)
        return cause if isinstance(cause, LMEraserError) else error
    # Commands that need no Ray do not load it.
    exceptions = sys.modules.get("ray.exceptions")
    if exceptions is None or not isinstance(error, exceptions.RayError):
        return None
    cause = _cause(error)
    if isinstance(cause, LMEraserError):
        return cause
    if cause is not error and not isinstance(cause, exceptions.RayError):
        return LMEraserError(f"Ray: {_named(cause)}")
    return LMEraserError(f"Ray: {_of_text(str(cause))}")


def _cause(error: BaseException) -> BaseException:
    """What was raised first: an exception holds that of the process where it was raised."""
    seen = [error]
    while isinstance(cause := getattr(seen[-1], "cause", None), BaseException) and cause not in seen:
        seen.append(cause)
    return seen[-1]


def _named(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _of_text(text: str) -> str:
    """The first line, which says what happened to Ray, and the last that a traceback in the text raised."""
    lines = [line.strip() for line in text.strip().splitlines()] or ["no reason given"]
    raised = [line for line in lines[1:] if _RAISED.match(line)]
    return f"{lines[0]} {raised[-1]}" if raised else lines[0]
