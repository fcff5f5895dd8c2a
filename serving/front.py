"""Bounds for Ray Serve's proxy, which bounds neither the length nor the time of a request's head.

Its HTTP options know neither bound. Serve calls :func:`bound_heads` in each proxy where
``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH`` names it; a Ray that `lmeraser` starts has it so.
"""

from __future__ import annotations

import asyncio

import uvicorn.config
from starlette.middleware import Middleware
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

CALLBACK_VARIABLE = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
CALLBACK = "serving.front:bound_heads"
# Above what the replica refuses with a problem, so that most callers are told in its words.
MAX_HEAD_BYTES = 2 * 65536
LONGEST_HEAD_S = 15.0
_TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


def bound_heads() -> list[Middleware]:
    """Have uvicorn in this process, which is Serve's proxy, speak HTTP by :class:`BoundedHeads`."""
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{BoundedHeads.__name__}"
    return []


class BoundedHeads(HttpToolsProtocol):
    """HTTP/1.1 as uvicorn speaks it, with heads that are bounded in bytes and in time.

    A connection that sends nothing counts as one whose head has begun; one that is kept alive has uvicorn's own time.
    """

    _head_bytes = 0
    _in_head = True
    _head_ends: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._head_arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what belongs to a head."""
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
        """After the body comes the next head."""
        super().on_message_complete()
        self._in_head, self._head_bytes = True, 0

    def _await_head(self) -> None:
        if self._head_ends is None:
            self._head_ends = self.loop.call_later(LONGEST_HEAD_S, self._close)

    def _head_arrived(self) -> None:
        self._in_head = False
        if self._head_ends is not None:
            self._head_ends.cancel()
            self._head_ends = None

    def _close(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
