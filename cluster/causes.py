"""The original exception, where one has crossed processes of Ray and has their tracebacks as its text."""

from __future__ import annotations

import re

# The last line of a traceback: the exception and its message.
_RAISED = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception|Exit|Interrupt|Warning)\w*(?:: .*)?$")


def cause_of(error: BaseException) -> BaseException:
    """The exception that was raised first: Ray's errors wrap that of the process where it was raised."""
    chain = [error]
    while (cause := _wrapped(chain[-1])) is not None and cause not in chain:
        chain.append(cause)
    return chain[-1]


def described(error: BaseException) -> str:
    """The cause in one sentence, or in as many lines as its message has."""
    cause = cause_of(error)
    text = str(cause).strip()
    lines = [line.strip() for line in text.splitlines()]
    raised = [line for line in lines[1:] if _RAISED.match(line)]
    if any(line.startswith(("Traceback ", 'File "')) for line in lines):
        # Ray's first line says what happened, and the last line of each traceback says why.
        return f"{lines[0]} {raised[-1]}" if raised else lines[0]
    name = type(cause).__name__
    return f"{name}: {text}" if text else name


def _wrapped(error: BaseException) -> BaseException | None:
    failures = getattr(error, "worker_failures", None)
    candidates = (
        getattr(error, "cause", None),
        next(iter(failures.values()), None) if isinstance(failures, dict) else None,
        getattr(error, "controller_failure", None),
        # Ray Train's wrapper of a worker's exception.
        getattr(error, "_base_exc", None),
    )
    return next((candidate for candidate in candidates if isinstance(candidate, BaseException)), None)
