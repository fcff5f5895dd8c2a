"""What every request passes first, and every answer last."""

from __future__ import annotations

import logging
import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.bodies import Bodies
from serving.problems import problem_of, response_of

logger = logging.getLogger(__name__)

MAX_HEADERS = 100
MAX_HEADER_BYTES = 65536
_REQUEST_ID = re.compile(r"[A-Za-z0-9._~-]{1,128}")


class Edge:
    """Gives each request its id, or takes the caller's; bounds headers and bodies; answers HEAD like GET.

    Answers are neither kept by caches nor guessed at by browsers, and errors that nobody caught become problems.
    """

    def __init__(self, app: ASGIApp, bodies: Bodies, names_requests: bool) -> None:
        """Wrap an app.

        Args:
            app: what answers.
            bodies: bounds on what is received.
            names_requests: whether to put the request's id into the answer's headers; Serve's proxy does it by itself.
        """
        self._app = app
        self._bodies = bodies
        self._names_requests = names_requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope)
        wanted_id = given.get("x-request-id", "")
        request_id = wanted_id if _REQUEST_ID.fullmatch(wanted_id) else uuid.uuid4().hex
        has_body = "transfer-encoding" in given or given.get("content-length", "0") != "0"
        without_body = scope["method"] == "HEAD"
        body = self._bodies.begin()
        scope = {
            **scope,
            "method": "GET" if without_body else scope["method"],
            "lmeraser.request_id": request_id,
            "lmeraser.body": body,
        }
        started = False

        async def bounded_receive() -> Message:
            return await body.receive(receive)

        async def dressed_send(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers["X-Content-Type-Options"] = "nosniff"
                headers.setdefault("Cache-Control", "no-store")
                if self._names_requests:
                    headers["X-Request-ID"] = request_id
                if has_body and not body.complete:
                    # What is still on its way is read by nobody.
                    headers["Connection"] = "close"
                if message["status"] == 307:
                    # Starlette's, to the path without the slash at its end; a prefix that a proxy has cut off is kept.
                    target, mark, query = headers["Location"].partition("?")
                    headers["Location"] = f"../{target.rpartition('/')[2]}{mark}{query}"
            elif without_body:
                message = {**message, "body": b""}
            await send(message)

        try:
            if len(scope["headers"]) > MAX_HEADERS or _bytes_of(scope) > MAX_HEADER_BYTES:
                raise HTTPException(
                    431, f"allowed are {MAX_HEADERS} headers, and {MAX_HEADER_BYTES} bytes of headers and path in all"
                )
            await self._app(scope, bounded_receive, dressed_send)
        except Exception as error:
            if not isinstance(error, HTTPException):
                logger.exception("request %s failed", request_id)
            if started:
                raise
            await response_of(problem_of(error, request_id))(scope, receive, dressed_send)
        finally:
            body.close()


def _bytes_of(scope: Scope) -> int:
    fields = sum(len(name) + len(value) for name, value in scope["headers"])
    return fields + len(scope.get("raw_path") or b"") + len(scope["query_string"])
