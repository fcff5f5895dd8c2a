"""Request bodies: each bounded in bytes and time, all together bounded in bytes and number.

When there is no room, the body that has been arriving for the longest time is ended, so that slow callers cannot block
others.
"""

from __future__ import annotations

import asyncio

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from serving.problems import BODY_TIMEOUT_S

# Limit for routes that expect no body.
SMALL_BODY_BYTES = 65536


class Bodies:
    """Accounts for the bodies of one replica. Used on one event loop, so without a lock."""

    def __init__(self, max_arriving: int, max_bytes: int) -> None:
        """Start without a body.

        Args:
            max_arriving: how many may be arriving at the same time.
            max_bytes: memory for all bodies together; each occupies its part from its first byte to the answer.
        """
        self._max_arriving = max_arriving
        self._max_bytes = max_bytes
        self._held_bytes = 0
        self._arriving: dict[Body, None] = {}  # in order of arrival

    def begin(self) -> Body:
        """The body of a new request; close it when the request is answered."""
        return Body(self)

    def arrives(self, body: Body) -> None:
        """Count a body as arriving."""
        if body not in self._arriving:
            if len(self._arriving) >= self._max_arriving:
                self._end_longest()
            self._arriving[body] = None

    def grows(self, body: Body, more_bytes: int) -> None:
        """Give a body more memory.

        Raises:
            HTTPException: 503 when others occupy too much and none of them is still arriving.
        """
        self._held_bytes += more_bytes
        body.held_bytes += more_bytes
        while self._held_bytes > self._max_bytes:
            if next(iter(self._arriving), body) is body:
                raise HTTPException(503, "the bodies of other requests occupy all memory for bodies")
            self._end_longest()

    def arrived(self, body: Body) -> None:
        """Count a body as complete; it keeps its memory."""
        self._arriving.pop(body, None)

    def release(self, body: Body) -> None:
        """Free a body's memory, and no longer count it as arriving."""
        self.arrived(body)
        self._held_bytes -= body.held_bytes
        body.held_bytes = 0

    def _end_longest(self) -> None:
        longest = next(iter(self._arriving))
        self.release(longest)
        longest.give_way()


class Body:
    """One request's body.

    Attributes:
        max_bytes: its largest allowed size, set by its route.
        held_bytes: how much of it is in memory.
        complete: whether all of it has arrived.
    """

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self._ends_at = asyncio.get_running_loop().time() + BODY_TIMEOUT_S
        self._timer: asyncio.Timeout | None = None
        self._too_late = f"the body did not arrive within {BODY_TIMEOUT_S:g} s"
        self._received_bytes = 0
        self.max_bytes = SMALL_BODY_BYTES
        self.held_bytes = 0
        self.complete = False

    async def receive(self, receive: Receive) -> Message:
        """The next message of the request.

        Raises:
            HTTPException: 408 when it does not arrive in time, 413 when the body is too long, 503 when there is no
                room.
        """
        if self.complete:
            # The only further message is that the caller disconnected, which may take any time.
            return await receive()
        self._bodies.arrives(self)
        try:
            async with asyncio.timeout_at(self._ends_at) as self._timer:
                message = await receive()
        except TimeoutError as error:
            raise HTTPException(408, self._too_late) from error
        self._received_bytes += len(message.get("body", b""))
        if self._received_bytes > self.max_bytes:
            raise self.too_long()
        self._bodies.grows(self, len(message.get("body", b"")))
        if not message.get("more_body", False):
            self.complete = True
            self._bodies.arrived(self)
        return message

    def too_long(self) -> HTTPException:
        """The error for a body above its limit."""
        return HTTPException(413, f"the body is longer than {self.max_bytes} bytes, the limit of this route")

    def give_way(self) -> None:
        """End at once, to make room for other bodies."""
        self._too_late = "the body was still arriving when its room was needed by others; send it faster"
        self._ends_at = asyncio.get_running_loop().time()
        if self._timer is not None and not self._timer.expired():
            self._timer.reschedule(self._ends_at)

    def close(self) -> None:
        """Free everything that the body occupies."""
        self._bodies.release(self)
