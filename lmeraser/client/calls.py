"""What the client asks of the service, as programs that do no input or output of their own.

A program is a generator: it yields a :class:`Call` and is sent the :class:`Answer`, or yields a
:class:`Pause`. ``lmeraser.client.client`` has one driver that blocks and one that awaits.
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
from urllib.parse import quote

from lmeraser.client.arguments import (
    checked_deadline,
    checked_deletion_id,
    checked_idempotency_key,
    checked_ids,
    checked_weight,
)
from lmeraser.client.encoding import ImageLike, encoded_image, is_one_image, not_an_image
from lmeraser.client.responses import (
    Cluster,
    FailedImage,
    Prediction,
    Receipt,
    cluster_of,
    deletion_of,
    prediction_of,
)
from lmeraser.deletion import Deletion
from lmeraser.errors import (
    AuthenticationError,
    ConfigError,
    PermissionDeniedError,
    ServiceError,
    ServiceUnavailableError,
    WaitTimeoutError,
)

Status = Literal["accepted", "erased", "completed", "failed"]
T = TypeVar("T")

IMAGES_PER_REQUEST = 32
DELETIONS_PER_PAGE = 1000
RETRIES = 4
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 8.0
LONGEST_RETRY_AFTER_S = 60.0
SHORTEST_LOOK_S = 0.05
LONGEST_LOOK_S = 1.0
TRANSIENT = (0, 408, 429, 502, 503, 504)
# Of the service's own errors (RFC 9457); what stands before it answers in other forms.
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
    """Do nothing for some seconds."""

    seconds: float


@dataclass(frozen=True)
class Answer:
    """What came back. Status 0: nothing did, and ``text`` says why. Header names are in lower case.

    ``proxy`` is the address of a proxy that the call went by; None where it went straight to the service.
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
        (one,) = yield from _predict_together([encoded_image(images)], specialist_weight)
        if isinstance(one, FailedImage):
            raise ServiceError(f"{one.title}: {one.detail}", status=422)
        return one
    if not isinstance(images, Iterable):
        raise not_an_image(images)
    predictions: list[Prediction | FailedImage] = []
    remaining = iter(images)
    while chunk := [encoded_image(image) for image in islice(remaining, IMAGES_PER_REQUEST)]:
        predictions += yield from _predict_together(chunk, specialist_weight)
    return predictions


def delete(
    sample_ids: Iterable[str | int],
    subject_ids: Iterable[str | int],
    idempotency_key: str | None,
    deadline: datetime | None,
) -> Program[Deletion]:
    """Ask for a deletion."""
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
    """Look at one deletion."""
    return deletion_of((yield from _exchange(Call("GET", _deletion_path(deletion_id)))))


def retry(deletion_id: str) -> Program[Deletion]:
    """Have a failed deletion tried again."""
    return deletion_of((yield from _exchange(Call("POST", f"{_deletion_path(deletion_id)}/retry"))))


def deletions() -> Program[list[Deletion]]:
    """Look at all deletions, page by page; oldest first."""
    found: list[Deletion] = []
    path = f"/v1/deletions?limit={DELETIONS_PER_PAGE}"
    page = yield from _exchange(Call("GET", path))
    found += map(deletion_of, page["deletions"])
    while page.get("next") is not None:
        page = yield from _exchange(Call("GET", f"{path}&before={quote(page['next'], safe='')}"))
        found += map(deletion_of, page["deletions"])
    return found[::-1]


def wait(
    deletion_id: str,
    status: Literal["erased", "completed"],
    timeout_s: float,
    progress: Callable[[Deletion], None] | None,
) -> Program[Deletion]:
    """Look at a deletion until it has reached a status."""
    if status not in ("erased", "completed"):
        raise ConfigError(f"cannot wait for the status {status!r}; allowed is erased or completed")
    fail_point = {"completed"} if status == "completed" else {"erased", "completed", "failed"}
    deadline = time.monotonic() + timeout_s
    pause_s = SHORTEST_LOOK_S
    while True:
        found = yield from deletion(deletion_id)
        if progress is not None:
            progress(found)
        if found.status in fail_point:
            return found
        if found.status == "failed":
            raise ServiceError(f"deletion {deletion_id} failed: {found.reason}", status=200)
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise WaitTimeoutError(
                f"deletion {deletion_id} is {found.status} and not {status} after {timeout_s:g} s", status=200
            )
        yield Pause(min(pause_s, left_s))
        pause_s = min(1.5 * pause_s, LONGEST_LOOK_S)


def receipt(deletion_id: str) -> Program[Receipt]:
    """Fetch the receipt of a deletion."""
    return Receipt((yield from _exchange(Call("GET", f"{_deletion_path(deletion_id)}/receipt"))))


def clusters() -> Program[list[Cluster]]:
    """Look at the clusters."""
    found = yield from _exchange(Call("GET", "/v1/clusters"))
    return [cluster_of(value) for value in found["clusters"]]


def _predict_together(images: list[bytes], specialist_weight: float | None) -> Program[list[Prediction | FailedImage]]:
    """One request; where the service finds it too large, two of half the size."""
    body: dict[str, Any] = {"images": [base64.b64encode(image).decode() for image in images]}
    if specialist_weight is not None:
        body["specialist_weight"] = specialist_weight
    try:
        answer = yield from _exchange(Call("POST", "/v1/predict", body))
    except ServiceError as error:
        if error.status != 413 or len(images) == 1:
            raise
        half = len(images) // 2
        first = yield from _predict_together(images[:half], specialist_weight)
        return first + (yield from _predict_together(images[half:], specialist_weight))
    return [prediction_of(value) for value in answer["predictions"]]


def _exchange(call: Call) -> Program[Any]:
    """Carry out a call, again where that may help; the JSON value of the answer.

    Raises:
        ServiceError: when the service refuses.
        ServiceUnavailableError: when it cannot be reached or cannot answer now.
    """
    for attempt in range(RETRIES + 1):
        answer = yield call
        if 200 <= answer.status < 300:
            return _json_of(answer)
        if not _may_pass(answer) or attempt == RETRIES:
            break
        yield Pause(_pause_s(attempt, answer.headers.get("retry-after")))
    raise _refusal(call, answer)


def _may_pass(answer: Answer) -> bool:
    """Whether the same call may succeed later.

    A 500 in plain text is Serve's, whose replica died over the call. A 404 that is no problem is not the service's: a
    proxy of Serve gives it that has just come up and knows no routes yet.
    """
    kind = answer.headers.get("content-type", "").partition(";")[0]
    return (
        answer.status in TRANSIENT
        or (answer.status == 500 and kind == "text/plain")
        or (answer.status == 404 and kind != _PROBLEM)
    )


def _pause_s(attempt: int, retry_after: str | None) -> float:
    """As long as Retry-After says (RFC 9110, section 10.2.3), else a random share of 0.5, 1, 2, 4, 8 s."""
    if retry_after is not None:
        try:
            asked_s = (
                float(retry_after)
                if retry_after.isdigit()
                else (parsedate_to_datetime(retry_after).timestamp() - time.time())
            )
            return min(max(asked_s, 0.0), LONGEST_RETRY_AFTER_S)
        except ValueError:
            pass
    return float(min(FIRST_PAUSE_S * 2**attempt, LONGEST_PAUSE_S) * random.uniform(0.5, 1.0))


def _refusal(call: Call, answer: Answer) -> ServiceError:
    kind = ServiceUnavailableError if _may_pass(answer) else _REFUSALS.get(answer.status, ServiceError)
    where = f"{call.method} {call.path}"
    # The service itself, or the proxy in between: only a problem is surely the service's.
    by_proxy = f" (through the proxy {answer.proxy}, which the environment names)" if answer.proxy else ""
    if answer.status == 0:
        return kind(f"{where}: {answer.text}{by_proxy}")
    try:
        problem = json.loads(answer.text)
        said = f"{problem['title']}: {problem['detail']}"
    except (ValueError, TypeError, KeyError):
        said = answer.text[:200] + by_proxy
    request_id = answer.headers.get("x-request-id")
    quoted = f" (request {request_id})" if request_id else ""
    return kind(f"{where}: {answer.status} {said}{quoted}", status=answer.status, request_id=request_id)


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
