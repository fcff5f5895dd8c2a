"""Errors as problem documents (RFC 9457), and the request id that they carry."""

from __future__ import annotations

import logging
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from actors.allowance import MIN_COST, PER_SECOND
from lmeraser.errors import (
    IdempotencyConflictError,
    KeysError,
    LMEraserError,
    LogError,
    NotReadyError,
    OverloadedError,
    RateLimitError,
    RequestError,
    StoreError,
    UndecodableImageError,
    UnknownDeletionError,
)
from serving.schemas import Problem

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 1
# Those of deletions that name no row are given out again one at a time.
RATE_LIMIT_RETRY_AFTER_S = MIN_COST // PER_SECOND
LONGEST_BODY_S = 60.0
MEDIA_TYPE = "application/problem+json"
_TYPES = "urn:lmeraser:problem:"
# The first that fits; a message of the store, the keys or the log names paths, which are not the caller's business.
_KINDS: tuple[tuple[type[LMEraserError], int, str, str | None], ...] = (
    (IdempotencyConflictError, 409, "idempotency-conflict", None),
    (RateLimitError, 429, "too-many-requests", None),
    (UnknownDeletionError, 404, "unknown-deletion", None),
    (RequestError, 422, "invalid-request", None),
    (UndecodableImageError, 422, "undecodable-image", None),
    (NotReadyError, 503, "not-ready", None),
    (OverloadedError, 503, "overloaded", None),
    (StoreError, 503, "store-unavailable", "the store cannot be used now"),
    (KeysError, 503, "keys-unavailable", "the API keys cannot be read now"),
    (LogError, 503, "store-unavailable", "the log cannot be used now"),
)


def problem_of(error: Exception, request_id: str) -> Problem:
    """The problem that an exception is to the caller."""
    if isinstance(error, HTTPException):
        slug = "too-large" if error.status_code == 413 else HTTPStatus(error.status_code).phrase.lower()
        return _problem(error.status_code, slug.replace(" ", "-"), error.detail, request_id)
    for kind, status, slug, detail in _KINDS:
        if isinstance(error, kind):
            return _problem(status, slug, detail or str(error), request_id)
    return _problem(
        500, "internal-error", "an error on the server's side; the log has it under the request id", request_id
    )


def too_large(detail: str, request_id: str) -> Problem:
    """The problem of a body or an image above a limit."""
    return _problem(413, "too-large", detail, request_id)


def request_id_of(scope: Scope) -> str:
    """The id that :class:`~serving.edge.Edge` gave the request."""
    return str(scope["lmeraser.request_id"])


def register_problems(app: FastAPI) -> None:
    """Make every error of the app a problem."""
    app.add_exception_handler(LMEraserError, _known_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)


async def _known_error(request: Request, error: Exception) -> Response:
    problem = problem_of(error, request_id_of(request.scope))
    if problem.status >= 500:
        logger.warning("request %s: %s: %s", problem.request_id, type(error).__name__, error)
    return response_of(problem)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return response_of(problem_of(error, request_id_of(request.scope)), dict(error.headers or {}))


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # The input itself is left out: it may be an image or an id.
    detail = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
    return response_of(_problem(422, "invalid-request", detail, request_id_of(request.scope)))


def _problem(status: int, slug: str, detail: str, request_id: str) -> Problem:
    title = slug.replace("-", " ").capitalize()
    return Problem(type=_TYPES + slug, title=title, status=status, detail=detail, request_id=request_id)


def response_of(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    """A problem as it is sent."""
    headers = dict(headers or {})
    if problem.status == 429:
        headers["Retry-After"] = str(RATE_LIMIT_RETRY_AFTER_S)
    elif problem.status == 503:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    return Response(problem.model_dump_json(), problem.status, headers, MEDIA_TYPE)
