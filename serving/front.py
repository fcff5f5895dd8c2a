"""Bounds on the size and arrival time of a request's head, which Ray Serve's proxy does not limit.

Its HTTP options have no such limits. Serve calls :func:`bound_heads` in each proxy if
``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH`` names it; a Ray that ``lmeraser`` starts is configured so.
"""

from __future__ import annotations

import asyncio

import uvicorn.config
from starlette.middleware import Middleware
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

CALLBACK_VARIABLE = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
CALLBACK = "serving.front:bound_heads"
# More than the replica's own limit, so that most callers get its problem document.
MAX_HEAD_BYTES = 2 * 65536
HEAD_TIMEOUT_S = 15.0
_TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


def bound_heads() -> list[Middleware]:
    """Make uvicorn in this process, Serve's proxy, use :class:`BoundedHeads` for HTTP."""
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{BoundedHeads.__name__}"
    return []


class BoundedHeads(HttpToolsProtocol):
    """Uvicorn's HTTP/1.1 protocol, with heads that are bounded in bytes and in time.

    The time of the first head counts from the connection; between requests uvicorn's keep-alive timeout applies.
    """

    _head_bytes = 0
    _in_head = True
    _head_ends: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start waiting for the first head."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._head_arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count the bytes of a head."""
        if self._in_head:
            self._await_head()
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.transport.write(_TOO_LONG)
            self.transport.close()

    def on_headers_complete(self) -> None:
        """The head has arrived."""
        self._head_arrived()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body has arrived; the next head follows."""
        super().on_message_complete()
        self._in_head, self._head_bytes = True, 0

    def _await_head(self) -> None:
        if self._head_ends is None:
            self._head_ends = self.loop.call_later(HEAD_TIMEOUT_S, self._close)

    def _head_arrived(self) -> None:
        self._in_head = False
        if self._head_ends is not None:
            self._head_ends.cancel()
            self._head_ends = None

    def _close(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
