"""The outermost middleware: what every request passes first, and every answer last."""

from __future__ import annotations

import logging
import re
import time
import uuid
from functools import partial

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.bodies import Bodies, Body
from serving.problems import problem_of, response_of

logger = logging.getLogger(__name__)

MAX_HEADERS = 100
MAX_HEADER_BYTES = 65536
_REQUEST_ID = re.compile(r"[A-Za-z0-9._~-]{1,128}")


class RequestMiddleware:
    """Gives each request an id, bounds headers and bodies, answers HEAD like GET, and turns errors into problems."""

    def __init__(self, app: ASGIApp, bodies: Bodies, names_requests: bool) -> None:
        """Wrap an app.

        Args:
            app: handles the requests.
            bodies: bounds on what is received.
            names_requests: whether to add the header X-Request-ID to answers; Ray Serve's proxy adds it itself.
        """
        self._app = app
        self._bodies = bodies
        self._names_requests = names_requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        begun_s = time.perf_counter()
        body = self._bodies.begin()
        answer = _Answer(scope, body, send, request_id if self._names_requests else None)
        inner_scope = {
            **scope,
            "method": "GET" if scope["method"] == "HEAD" else scope["method"],
            "lmeraser.request_id": request_id,
            "lmeraser.body": body,
        }
        try:
            _check_headers(scope)
            await self._app(inner_scope, partial(body.receive, receive), answer.send)
        except Exception as error:
            if not isinstance(error, HTTPException):
                logger.exception("request %s failed", request_id)
            if answer.started:
                raise
            await response_of(problem_of(error, request_id))(inner_scope, receive, answer.send)
        finally:
            body.close()
            # The route and not the path, which is the caller's text.
            route = getattr(inner_scope.get("route"), "path", "no route")
            seconds = time.perf_counter() - begun_s
            logger.info("request %s: %s %s, %d in %.3f s", request_id, scope["method"], route, answer.status, seconds)


class _Answer:
    """The answer to one request, with the headers that every answer has and without a body after HEAD."""

    def __init__(self, scope: Scope, body: Body, send: Send, request_id: str | None) -> None:
        headers = Headers(scope=scope)
        self._has_body = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
        self._body = body
        self._is_head = scope["method"] == "HEAD"
        self._request_id = request_id
        self._send = send
        self.started = False
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
            self._add_headers(message)
        elif self._is_head:
            message = {**message, "body": b""}
        await self._send(message)

    def _add_headers(self, message: Message) -> None:
        headers = MutableHeaders(scope=message)
        headers["X-Content-Type-Options"] = "nosniff"
        headers.setdefault("Cache-Control", "no-store")
        if self._request_id is not None:
            headers["X-Request-ID"] = self._request_id
        if self._has_body and not self._body.complete:
            # Nobody reads the rest of the body.
            headers["Connection"] = "close"
        if message["status"] == 307:
            # Starlette redirects to the path without its trailing slash. Relative, so that a proxy's prefix is kept.
            target, mark, query = headers["Location"].partition("?")
            headers["Location"] = f"../{target.rpartition('/')[2]}{mark}{query}"


def _request_id(scope: Scope) -> str:
    """The caller's id if it is well-formed, else a new one."""
    requested = Headers(scope=scope).get("x-request-id", "")
    return requested if _REQUEST_ID.fullmatch(requested) else uuid.uuid4().hex


def _check_headers(scope: Scope) -> None:
    header_bytes = sum(len(name) + len(value) for name, value in scope["headers"])
    header_bytes += len(scope.get("raw_path") or b"") + len(scope["query_string"])
    if len(scope["headers"]) > MAX_HEADERS or header_bytes > MAX_HEADER_BYTES:
        raise HTTPException(
            431, f"allowed are {MAX_HEADERS} headers, and {MAX_HEADER_BYTES} bytes for headers and path together"
        )
