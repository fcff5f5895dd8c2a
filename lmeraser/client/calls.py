"""The client's calls, as programs that do no input or output themselves (lmeraser.client.exchange)."""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Callable, Iterable
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import urlencode

from lmeraser.client.arguments import (
    checked_deadline,
    checked_deletion_id,
    checked_idempotency_key,
    checked_ids,
    checked_status,
    checked_token,
    checked_weight,
    page_query,
)
from lmeraser.client.encoding import ImageLike, encoded_image, is_one_image, not_an_image
from lmeraser.client.exchange import Call, Pause, Program, exchange, is_transient, refusal
from lmeraser.client.responses import (
    Cluster,
    CommitSummary,
    FailedImage,
    Prediction,
    Receipt,
    cluster_of,
    commit_of,
    deletion_of,
    outcome_from,
    prediction_of,
    preview_from,
)
from lmeraser.deletion import Deletion, Preview, Status
from lmeraser.errors import (
    ConfigError,
    DataError,
    ServiceError,
    WaitTimeoutError,
)
from lmeraser.id_tables import CONTENT_TYPES, format_of
from lmeraser.paging import Page
from lmeraser.proof.outcomes import Outcome

T = TypeVar("T")

IMAGES_PER_REQUEST = 32
MIN_POLL_S = 0.05
MAX_POLL_S = 1.0


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
    preview: str | None,
) -> Program[Deletion]:
    """Request a deletion."""
    body = _named(sample_ids, subject_ids)
    if preview is not None:
        body["preview"] = checked_token(preview)
    if deadline is not None:
        body["deadline"] = checked_deadline(deadline)
    key = uuid.uuid4().hex if idempotency_key is None else checked_idempotency_key(idempotency_key)
    headers = {"Idempotency-Key": key}
    return deletion_of((yield from exchange(Call("POST", "/v1/deletions", body, headers))))


def delete_from_file(
    file: Path, column: str | None, of: Literal["samples", "subjects"], idempotency_key: str | None
) -> Program[list[Deletion]]:
    """Request the deletion of the ids of a table."""
    content_type = CONTENT_TYPES[format_of(file.name)]
    query = urlencode({"of": of, **({} if column is None else {"column": column})})
    key = uuid.uuid4().hex if idempotency_key is None else checked_idempotency_key(idempotency_key)
    headers = {"Idempotency-Key": key, "Content-Type": content_type}
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}") from error
    answer = yield from exchange(Call("POST", f"/v1/deletions/table?{query}", headers=headers, content=content))
    return list(map(deletion_of, answer["deletions"]))


def outcomes(
    sample_ids: Iterable[str | int], subject_ids: Iterable[str | int], deletions: Iterable[str]
) -> Program[list[Outcome]]:
    """What became of ids."""
    body = {**_named(sample_ids, subject_ids), "deletions": list(map(checked_deletion_id, deletions))}
    answer = yield from exchange(Call("POST", "/v1/deletions/outcomes", body))
    return list(map(outcome_from, answer["outcomes"]))


def preview(sample_ids: Iterable[str | int], subject_ids: Iterable[str | int], show_ids: bool) -> Program[Preview]:
    """Preview a deletion."""
    body = {**_named(sample_ids, subject_ids), "show_ids": show_ids}
    return preview_from((yield from exchange(Call("POST", "/v1/deletions/preview", body))))


def preview_of(deletion_id: str, show_ids: bool) -> Program[Preview]:
    """Preview a deletion that waits for approval."""
    query = "?show_ids=true" if show_ids else ""
    return preview_from((yield from exchange(Call("POST", f"{_deletion_path(deletion_id)}/preview{query}"))))


def approve(deletion_id: str, preview: str | None) -> Program[Deletion]:
    """Approve a deletion."""
    body = {} if preview is None else {"preview": checked_token(preview)}
    return deletion_of((yield from exchange(Call("POST", f"{_deletion_path(deletion_id)}/approve", body))))


def decline(deletion_id: str, reason: str) -> Program[Deletion]:
    """Decline a deletion."""
    body = {"reason": reason}
    return deletion_of((yield from exchange(Call("POST", f"{_deletion_path(deletion_id)}/decline", body))))


def deletion(deletion_id: str) -> Program[Deletion]:
    """Fetch one deletion."""
    return deletion_of((yield from exchange(Call("GET", _deletion_path(deletion_id)))))


def retry(deletion_id: str) -> Program[Deletion]:
    """Have the clusters of a failed deletion tuned again."""
    return deletion_of((yield from exchange(Call("POST", f"{_deletion_path(deletion_id)}/retry"))))


def deletions_page(limit: int, cursor: str | None, status: Status | None) -> Program[Page[Deletion]]:
    """Fetch one page of the deletions."""
    query = page_query(limit, cursor, status=checked_status(status))
    page = yield from exchange(Call("GET", f"/v1/deletions?{query}"))
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
        if current.status == "declined":
            who = f" by {current.decided_by!r}" if current.decided_by else ""
            raise ServiceError(f"deletion {deletion_id} was declined{who}: {current.reason}", status=200)
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
    return Receipt((yield from exchange(Call("GET", f"{_deletion_path(deletion_id)}/receipt"))))


def clusters_page(limit: int, cursor: str | None) -> Program[Page[Cluster]]:
    """Fetch one page of the prompt clusters."""
    page = yield from exchange(Call("GET", f"/v1/clusters?{page_query(limit, cursor)}"))
    return Page(tuple(map(cluster_of, page["clusters"])), page.get("next_cursor"))


def commit() -> Program[CommitSummary]:
    """Fetch the newest commit."""
    return commit_of((yield from exchange(Call("GET", "/v1/commit"))))


def ready() -> Program[bool]:
    """Whether the service answers predictions now; one call without retries."""
    call = Call("GET", "/readyz")
    answer = yield call
    if 200 <= answer.status < 300:
        return True
    if is_transient(answer):
        return False
    raise refusal(call, answer)


def _predict_chunk(images: list[bytes], specialist_weight: float | None) -> Program[list[Prediction | FailedImage]]:
    """One request; if the service finds it too large, two requests of half the size."""
    body: dict[str, Any] = {"images": [base64.b64encode(image).decode() for image in images]}
    if specialist_weight is not None:
        body["specialist_weight"] = specialist_weight
    try:
        answer = yield from exchange(Call("POST", "/v1/predict", body))
    except ServiceError as error:
        if error.status != 413 or len(images) == 1:
            raise
        half = len(images) // 2
        first = yield from _predict_chunk(images[:half], specialist_weight)
        return first + (yield from _predict_chunk(images[half:], specialist_weight))
    return [prediction_of(value) for value in answer["predictions"]]


def _named(sample_ids: Iterable[str | int], subject_ids: Iterable[str | int]) -> dict[str, Any]:
    return {
        "sample_ids": checked_ids("sample_ids", sample_ids),
        "subject_ids": checked_ids("subject_ids", subject_ids),
    }


def _deletion_path(deletion_id: str) -> str:
    return f"/v1/deletions/{checked_deletion_id(deletion_id)}"
