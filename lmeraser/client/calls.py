"""The client's calls, as programs that do no input or output themselves.

A program is a generator: it yields a :class:`Call` and is sent the :class:`Answer`, or yields a :class:`Pause`.
``lmeraser.client.client`` has the driver that blocks, ``lmeraser.client.async_client`` the one that awaits.
"""

from __future__ import annotations

import base64
import json
import random
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Any, Literal, TypeVar

from lmeraser.client.arguments import (
    checked_deadline,
    checked_deletion_id,
    checked_idempotency_key,
    checked_ids,
    checked_status,
    checked_weight,
    page_query,
)
from lmeraser.client.encoding import ImageLike, encoded_image, is_one_image, not_an_image
from lmeraser.client.responses import (
    Cluster,
    CommitSummary,
    FailedImage,
    Prediction,
    Receipt,
    cluster_of,
    commit_of,
    deletion_of,
    prediction_of,
)
from lmeraser.deletion import Deletion, Status
from lmeraser.errors import (
    AuthenticationError,
    ConfigError,
    PermissionDeniedError,
    ServiceError,
    ServiceUnavailableError,
    WaitTimeoutError,
)
from lmeraser.paging import Page

T = TypeVar("T")

IMAGES_PER_REQUEST = 32
RETRIES = 4
MIN_BACKOFF_S = 0.5
MAX_BACKOFF_S = 8.0
MAX_RETRY_AFTER_S = 60.0
MIN_POLL_S = 0.05
MAX_POLL_S = 1.0
TRANSIENT = (0, 408, 429, 502, 503, 504)
# The service's own errors have this type (RFC 9457); those of proxies and load balancers have others.
_PROBLEM = "application/problem+json"
_REFUSALS: Mapping[int, type[ServiceError]] = {401: AuthenticationError, 403: PermissionDeniedError}


@dataclass(frozen=True)
class Call:
    """One HTTP request; ``body`` is a JSON value."""

    method: str
    path: str
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


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


def predict(
    images: ImageLike | Iterable[ImageLike], specialist_weight: float | None
) -> Program[Prediction | list[Prediction | FailedImage]]:
    """Predict one image or several."""
    if specialist_weight is not None:
        specialist_weight = checked_weight(specialist_weight)
    if is_one_image(images):
        (prediction,) = yield from _predict_chunk([encoded_image(images)], specialist_weight)
        if isinstance(prediction, FailedImage):
            raise ServiceError(f"{prediction.title}: {prediction.detail}", status=422)
        return prediction
    if not isinstance(images, Iterable):
        raise not_an_image(images)
    predictions: list[Prediction | FailedImage] = []
    remaining = iter(images)
    while chunk := [encoded_image(image) for image in islice(remaining, IMAGES_PER_REQUEST)]:
        predictions += yield from _predict_chunk(chunk, specialist_weight)
    return predictions


def delete(
    sample_ids: Iterable[str | int],
    subject_ids: Iterable[str | int],
    idempotency_key: str | None,
    deadline: datetime | None,
) -> Program[Deletion]:
    """Request a deletion."""
    body: dict[str, Any] = {
        "sample_ids": checked_ids("sample_ids", sample_ids),
        "subject_ids": checked_ids("subject_ids", subject_ids),
    }
    if deadline is not None:
        body["deadline"] = checked_deadline(deadline)
    key = uuid.uuid4().hex if idempotency_key is None else checked_idempotency_key(idempotency_key)
    headers = {"Idempotency-Key": key}
    return deletion_of((yield from _exchange(Call("POST", "/v1/deletions", body, headers))))


def deletion(deletion_id: str) -> Program[Deletion]:
    """Fetch one deletion."""
    return deletion_of((yield from _exchange(Call("GET", _deletion_path(deletion_id)))))


def retry(deletion_id: str) -> Program[Deletion]:
    """Have the clusters of a failed deletion tuned again."""
    return deletion_of((yield from _exchange(Call("POST", f"{_deletion_path(deletion_id)}/retry"))))


def deletions_page(limit: int, cursor: str | None, status: Status | None) -> Program[Page[Deletion]]:
    """Fetch one page of the deletions."""
    query = page_query(limit, cursor, status=checked_status(status))
    page = yield from _exchange(Call("GET", f"/v1/deletions?{query}"))
    return Page(tuple(map(deletion_of, page["deletions"])), page.get("next_cursor"))


def wait(
    deletion_id: str,
    status: Literal["erased", "completed"],
    timeout_s: float,
    progress: Callable[[Deletion], None] | None,
) -> Program[Deletion]:
    """Poll a deletion until it has reached a status."""
    if status not in ("erased", "completed"):
        raise ConfigError(f"cannot wait for the status {status!r}; allowed is erased or completed")
    reached = {"completed"} if status == "completed" else {"erased", "completed", "failed"}
    deadline = time.monotonic() + timeout_s
    pause_s = MIN_POLL_S
    while True:
        current = yield from deletion(deletion_id)
        if progress is not None:
            progress(current)
        if current.status in reached:
            return current
        if current.status == "failed":
            raise ServiceError(f"deletion {deletion_id} failed: {current.reason}", status=200)
        remaining_s = deadline - time.monotonic()
        if remaining_s <= 0:
            raise WaitTimeoutError(
                f"deletion {deletion_id} is {current.status}, not {status}, after {timeout_s:g} s", status=200
            )
        yield Pause(min(pause_s, remaining_s))
        pause_s = min(1.5 * pause_s, MAX_POLL_S)


def receipt(deletion_id: str) -> Program[Receipt]:
    """Fetch the receipt of a deletion."""
    return Receipt((yield from _exchange(Call("GET", f"{_deletion_path(deletion_id)}/receipt"))))


def clusters_page(limit: int, cursor: str | None) -> Program[Page[Cluster]]:
    """Fetch one page of the prompt clusters."""
    page = yield from _exchange(Call("GET", f"/v1/clusters?{page_query(limit, cursor)}"))
    return Page(tuple(map(cluster_of, page["clusters"])), page.get("next_cursor"))


def commit() -> Program[CommitSummary]:
    """Fetch the newest commit."""
    return commit_of((yield from _exchange(Call("GET", "/v1/commit"))))


def ready() -> Program[bool]:
    """Whether the service answers predictions now; one call without retries."""
    call = Call("GET", "/readyz")
    answer = yield call
    if 200 <= answer.status < 300:
        return True
    if _is_transient(answer):
        return False
    raise _refusal(call, answer)


def _predict_chunk(images: list[bytes], specialist_weight: float | None) -> Program[list[Prediction | FailedImage]]:
    """One request; if the service finds it too large, two requests of half the size."""
    body: dict[str, Any] = {"images": [base64.b64encode(image).decode() for image in images]}
    if specialist_weight is not None:
        body["specialist_weight"] = specialist_weight
    try:
        answer = yield from _exchange(Call("POST", "/v1/predict", body))
    except ServiceError as error:
        if error.status != 413 or len(images) == 1:
            raise
        half = len(images) // 2
        first = yield from _predict_chunk(images[:half], specialist_weight)
        return first + (yield from _predict_chunk(images[half:], specialist_weight))
    return [prediction_of(value) for value in answer["predictions"]]


def _exchange(call: Call) -> Program[Any]:
    """Make a call, retrying transient failures; returns the JSON value of the answer.

    Raises:
        ServiceError: when the service refuses the call.
        ServiceUnavailableError: when the service still cannot be reached or cannot answer after the last retry.
    """
    for attempt in range(RETRIES + 1):
        answer = yield call
        if 200 <= answer.status < 300:
            return _json_of(answer)
        if not _is_transient(answer) or attempt == RETRIES:
            break
        yield Pause(_pause_s(attempt, answer.headers.get("retry-after")))
    raise _refusal(call, answer)


def _is_transient(answer: Answer) -> bool:
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


def _refusal(call: Call, answer: Answer) -> ServiceError:
    kind = ServiceUnavailableError if _is_transient(answer) else _REFUSALS.get(answer.status, ServiceError)
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


def _deletion_path(deletion_id: str) -> str:
    return f"/v1/deletions/{checked_deletion_id(deletion_id)}"
