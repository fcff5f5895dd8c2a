"""Errors as problem documents (RFC 9457), with the request id that they carry."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from actors.allowance import MIN_COST, PER_SECOND
from lmeraser.errors import (
    DecidedError,
    IdempotencyConflictError,
    KeysError,
    LMEraserError,
    LogError,
    NotReadyError,
    OverloadedError,
    RateLimitError,
    RequestError,
    SelfApprovalError,
    StalePreviewError,
    StoreError,
    UndecodableImageError,
    UnknownDeletionError,
)
from serving.schemas import Problem

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 1
# The allowance for deletions that match no row refills one at a time.
RATE_LIMIT_RETRY_AFTER_S = MIN_COST // PER_SECOND
BODY_TIMEOUT_S = 60.0
MEDIA_TYPE = "application/problem+json"
_TYPES = "urn:lmeraser:problem:"
_JSON = "application/json"
# The first match counts. Messages of the store, the keys and the log name paths, so callers get another text.
_KINDS: tuple[tuple[type[LMEraserError], int, str, str | None], ...] = (
    (IdempotencyConflictError, 409, "idempotency-conflict", None),
    (SelfApprovalError, 403, "self-approval", None),
    (DecidedError, 409, "already-decided", None),
    (StalePreviewError, 409, "stale-preview", None),
    (RateLimitError, 429, "too-many-requests", None),
    (UnknownDeletionError, 404, "unknown-deletion", None),
    (RequestError, 422, "invalid-request", None),
    (UndecodableImageError, 422, "undecodable-image", None),
    (NotReadyError, 503, "not-ready", None),
    (OverloadedError, 503, "overloaded", None),
    (StoreError, 503, "store-unavailable", "the store is not available now"),
    (KeysError, 503, "keys-unavailable", "the API keys cannot be read now"),
    (LogError, 503, "store-unavailable", "the log is not available now"),
)


def problem_of(error: Exception, request_id: str) -> Problem:
    """The problem document for an exception."""
    if isinstance(error, HTTPException):
        slug = "too-large" if error.status_code == 413 else HTTPStatus(error.status_code).phrase.lower()
        return _problem(error.status_code, slug.replace(" ", "-"), error.detail, request_id)
    for kind, status, slug, detail in _KINDS:
        if isinstance(error, kind):
            return _problem(status, slug, detail or str(error), request_id)
    return _problem(
        500, "internal-error", "an internal error; the server's log names it with this request id", request_id
    )


def too_large(detail: str, request_id: str) -> Problem:
    """The problem document for a body or an image above a limit."""
    return _problem(413, "too-large", detail, request_id)


def request_id_of(scope: Scope) -> str:
    """The id that :class:`~serving.middleware.RequestMiddleware` gave the request."""
    return str(scope["lmeraser.request_id"])


def register_problems(app: FastAPI) -> None:
    """Answer every error of the app with a problem document, and describe it so in the OpenAPI document."""
    app.add_exception_handler(LMEraserError, _known_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        document = describe()
        for operations in document["paths"].values():
            for operation in operations.values():
                for status, response in operation["responses"].items():
                    # FastAPI describes every response as JSON.
                    if status >= "4" and _JSON in response["content"]:
                        response["content"][MEDIA_TYPE] = response["content"].pop(_JSON)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


async def _known_error(request: Request, error: Exception) -> Response:
    problem = problem_of(error, request_id_of(request.scope))
    if problem.status >= 500:
        # While a replica starts or has enough to do, every request gets one of these.
        level = logging.INFO if isinstance(error, NotReadyError | OverloadedError) else logging.WARNING
        logger.log(level, "request %s: %s: %s", problem.request_id, type(error).__name__, error)
    return response_of(problem)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return response_of(problem_of(error, request_id_of(request.scope)), dict(error.headers or {}))


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # Without the input itself, which may be an image or an id.
    detail = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
    return response_of(_problem(422, "invalid-request", detail, request_id_of(request.scope)))


def _problem(status: int, slug: str, detail: str, request_id: str) -> Problem:
    title = slug.replace("-", " ").capitalize()
    return Problem(type=_TYPES + slug, title=title, status=status, detail=detail, request_id=request_id)


def response_of(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    """The HTTP response for a problem document."""
    headers = dict(headers or {})
    if problem.status == 429:
        headers["Retry-After"] = str(RATE_LIMIT_RETRY_AFTER_S)
    elif problem.status == 503:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    return Response(problem.model_dump_json(), problem.status, headers, MEDIA_TYPE)
