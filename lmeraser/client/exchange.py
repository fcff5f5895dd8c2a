"""The parts of a program: a call, its answer, a pause; and the rules of when a call is repeated.

A program is a generator that does no input or output itself: it yields a :class:`Call` and is sent the
:class:`Answer`, or yields a :class:`Pause`. ``lmeraser.client.client`` has the driver that blocks,
``lmeraser.client.async_client`` the one that awaits.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from lmeraser.errors import AuthenticationError, PermissionDeniedError, ServiceError, ServiceUnavailableError

T = TypeVar("T")

RETRIES = 4
MIN_BACKOFF_S = 0.5
MAX_BACKOFF_S = 8.0
MAX_RETRY_AFTER_S = 60.0
TRANSIENT = (0, 408, 429, 502, 503, 504)
# The service's own errors have this type (RFC 9457); those of proxies and load balancers have others.
_PROBLEM = "application/problem+json"
_REFUSALS: Mapping[int, type[ServiceError]] = {401: AuthenticationError, 403: PermissionDeniedError}


@dataclass(frozen=True)
class Call:
    """One HTTP request; ``body`` is a JSON value, ``content`` a body of another kind."""

    method: str
    path: str
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None


@dataclass(frozen=True)
class Pause:
    """Wait before going on."""

    seconds: float


@dataclass(frozen=True)
class Answer:
    """The service's answer to a call.

    Attributes:
        status: HTTP status; 0 when no answer came, and ``text`` says why.
        text: the body.
        headers: names are in lower case.
        proxy: address of the proxy that the call went through; None when it went directly to the service.
    """

    status: int
    text: str
    headers: Mapping[str, str] = field(default_factory=dict)
    proxy: str | None = None


Program = Generator[Call | Pause, Answer, T]


def exchange(call: Call) -> Program[Any]:
    """Make a call, retrying transient failures; returns the JSON value of the answer.

    Raises:
        ServiceError: when the service refuses the call.
        ServiceUnavailableError: when the service still cannot be reached or cannot answer after the last retry.
    """
    for attempt in range(RETRIES + 1):
        answer = yield call
        if 200 <= answer.status < 300:
            return _json_of(answer)
        if not is_transient(answer) or attempt == RETRIES:
            break
        yield Pause(_pause_s(attempt, answer.headers.get("retry-after")))
    raise refusal(call, answer)


def is_transient(answer: Answer) -> bool:
    """Whether the same call may succeed later.

    A 500 in plain text comes from Ray Serve when a replica died during the call. A 404 without a problem document comes
    from a proxy of Ray Serve that has just started and knows no routes yet.
    """
    media_type = answer.headers.get("content-type", "").partition(";")[0]
    return (
        answer.status in TRANSIENT
        or (answer.status == 500 and media_type == "text/plain")
        or (answer.status == 404 and media_type != _PROBLEM)
    )


def _pause_s(attempt: int, retry_after: str | None) -> float:
    """Retry-After (RFC 9110, section 10.2.3) when given, else 0.5, 1, 2, 4 s, each times a random 0.5 to 1."""
    if retry_after is not None:
        try:
            requested_s = (
                float(retry_after)
                if retry_after.isdigit()
                else (parsedate_to_datetime(retry_after).timestamp() - time.time())
            )
            return min(max(requested_s, 0.0), MAX_RETRY_AFTER_S)
        except ValueError:
            pass
    return float(min(MIN_BACKOFF_S * 2**attempt, MAX_BACKOFF_S) * random.uniform(0.5, 1.0))


def refusal(call: Call, answer: Answer) -> ServiceError:
    """The error for an answer that refuses the call."""
    kind = ServiceUnavailableError if is_transient(answer) else _REFUSALS.get(answer.status, ServiceError)
    request = f"{call.method} {call.path}"
    # A problem document is certainly the service's own; anything else may come from the proxy.
    by_proxy = f" (through the proxy {answer.proxy} from the environment)" if answer.proxy else ""
    if answer.status == 0:
        return kind(f"{request}: {answer.text}{by_proxy}")
    try:
        problem = json.loads(answer.text)
        reason = f"{problem['title']}: {problem['detail']}"
    except (ValueError, TypeError, KeyError):
        reason = answer.text[:200] + by_proxy
    request_id = answer.headers.get("x-request-id")
    request_name = f" (request {request_id})" if request_id else ""
    return kind(f"{request}: {answer.status} {reason}{request_name}", status=answer.status, request_id=request_id)


def _json_of(answer: Answer) -> Any:
    try:
        return json.loads(answer.text)
    except ValueError as error:
        raise ServiceError(
            f"the answer is not JSON: {answer.text[:200]}",
            status=answer.status,
            request_id=answer.headers.get("x-request-id"),
        ) from error
