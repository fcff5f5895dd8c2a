"""What was really raised, where an exception has crossed processes of Ray and has their tracebacks for its text."""

from __future__ import annotations

import re

# The last line of a traceback: what was raised, and its message.
_RAISED = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception|Exit|Interrupt|Warning)\w*(?:: .*)?$")


def cause_of(error: BaseException) -> BaseException:
    """What was raised first: Ray's errors hold that of the process where it was raised."""
    seen = [error]
    while (cause := _held(seen[-1])) is not None and cause not in seen:
        seen.append(cause)
    return seen[-1]


def described(error: BaseException) -> str:
    """The cause in one sentence, or in as many lines as its own message has."""
    cause = cause_of(error)
    text = str(cause).strip()
    lines = [line.strip() for line in text.splitlines()]
    raised = [line for line in lines[1:] if _RAISED.match(line)]
    if any(line.startswith(("Traceback ", 'File "')) for line in lines):
        # Ray says first what happened, and at the end of each traceback stands why.
        return f"{lines[0]} {raised[-1]}" if raised else lines[0]
    name = type(cause).__name__
    return f"{name}: {text}" if text else name


def _held(error: BaseException) -> BaseException | None:
    failures = getattr(error, "worker_failures", None)
    held = (
        getattr(error, "cause", None),
        next(iter(failures.values()), None) if isinstance(failures, dict) else None,
        getattr(error, "controller_failure", None),
        # Ray Train's wrapping of what a worker raised.
        getattr(error, "_base_exc", None),
    )
    return next((one for one in held if isinstance(one, BaseException)), None)
