"""Errors as problem documents (RFC 9457), and the request id that they carry."""

from __future__ import annotations

import asyncio
import logging
import re
import uuid
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
LONGEST_BODY_S = 60.0
MEDIA_TYPE = "application/problem+json"
_TYPES = "urn:lmeraser:problem:"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._~-]{1,128}")
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
    """The id that :class:`RequestIds` gave the request."""
    return str(scope["lmeraser.request_id"])


def register_problems(app: FastAPI, max_body_bytes: int) -> None:
    """Make every error of the app a problem, and give every answer a request id."""
    app.add_exception_handler(LMEraserError, _known_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_middleware(RequestIds, max_body_bytes=max_body_bytes)


class RequestIds:
    """Gives each request its id, or takes the caller's, and turns uncaught errors into problems.

    A body is bounded in bytes and in the time that it may take.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope["lmeraser.request_id"] = request_id
        started = complete = False
        received_bytes = 0
        ends_at = asyncio.get_running_loop().time() + LONGEST_BODY_S

        async def bounded_receive() -> Message:
            nonlocal received_bytes, complete
            try:
                # After the body comes only news of the caller hanging up, and that may take as long as it likes.
                async with asyncio.timeout_at(None if complete else ends_at):
                    message = await receive()
            except TimeoutError as error:
                raise HTTPException(408, f"the body did not arrive within {LONGEST_BODY_S:g} s") from error
            complete = not message.get("more_body", False)
            received_bytes += len(message.get("body", b""))
            if received_bytes > self._max_body_bytes:
                raise HTTPException(413, f"the body is longer than {self._max_body_bytes} bytes")
            return message

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        try:
            await self._app(scope, bounded_receive, send_with_id)
        except Exception as error:
            logger.exception("request %s failed", request_id)
            if started:
                raise
            await _response(problem_of(error, request_id))(scope, receive, send_with_id)


async def _known_error(request: Request, error: Exception) -> Response:
    problem = problem_of(error, request_id_of(request.scope))
    if problem.status >= 500:
        logger.warning("request %s: %s: %s", problem.request_id, type(error).__name__, error)
    return _response(problem)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    request_id = request_id_of(request.scope)
    if error.status_code == 413:
        return _response(too_large(error.detail, request_id))
    slug = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
    return _response(_problem(error.status_code, slug, error.detail, request_id), dict(error.headers or {}))


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # The input itself is left out: it may be an image or an id.
    detail = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
    return _response(_problem(422, "invalid-request", detail, request_id_of(request.scope)))


def _problem(status: int, slug: str, detail: str, request_id: str) -> Problem:
    title = slug.replace("-", " ").capitalize()
    return Problem(type=_TYPES + slug, title=title, status=status, detail=detail, request_id=request_id)


def _response(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    headers = dict(headers or {})
    if problem.status in (429, 503):
        headers["Retry-After"] = str(RETRY_AFTER_S)
    return Response(problem.model_dump_json(), problem.status, headers, MEDIA_TYPE)
