"""Records requests in groups: those that arrive while a record is being written share the next one.

Every record is an object of its own, and each follows the one before it, so they cannot be written in parallel. In a
bucket, which takes tens of milliseconds for one, a burst of requests would otherwise wait for one another.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from actors.allowance import Allowance
from actors.fail_points import FailPoint, fail_point
from actors.journal import Journal
from lmeraser.deletion import Deletion
from lmeraser.errors import IdempotencyConflictError, LMEraserError
from lmeraser.state.record_bodies import MOST_DELETIONS, RequestBody

# Keyed hashes in a record of several requests, unless the first one alone has more.
MOST_HASHES = 100_000


@dataclass(frozen=True)
class Accepted:
    """A request that is in the log.

    Attributes:
        deletion: the deletion that it is for.
        body: what its record says.
        new: whether it was recorded now; it came before with the same idempotency key otherwise.
    """

    deletion: Deletion
    body: RequestBody
    new: bool


@dataclass(eq=False)
class _Request:
    """A request that waits for its record, and its outcome."""

    body: RequestBody
    outcome: Accepted | BaseException | None = None


class RequestGroups:
    """Records requests. Safe to use from several threads: the first to come writes the record for all that wait."""

    def __init__(self, journal: Journal, clock: Callable[[], float] = time.monotonic) -> None:
        self._journal = journal
        self._allowance = Allowance(clock)
        self._changed = threading.Condition()
        self._waiting: list[_Request] = []
        self._writing = False

    def record(self, body: RequestBody) -> Accepted:
        """Record a request, unless it came before with the same idempotency key. When this returns, it is durable.

        Raises:
            RateLimitError: when too many ids came that the system does not hold.
            IdempotencyConflictError: when the idempotency key came before with other ids.
            StoreError: when the record cannot be written; none of its requests is accepted then.
        """
        request = _Request(body)
        with self._changed:
            self._waiting.append(request)
        while request.outcome is None:
            if group := self._next_group(request):
                self._write(group)
        if isinstance(request.outcome, BaseException):
            raise request.outcome
        if request.outcome.new:
            fail_point(FailPoint.REQUEST_RECORDED)
        return request.outcome

    def _next_group(self, request: _Request) -> list[_Request]:
        """The requests to record next, once no record is being written; none if this one has its outcome by then."""
        with self._changed:
            while self._writing and request.outcome is None:
                self._changed.wait()
            if request.outcome is not None:
                return []
            self._writing = True
            hashes = 0
            group: list[_Request] = []
            for each in self._waiting[:MOST_DELETIONS]:
                hashes += len(each.body.hashes())
                if group and hashes > MOST_HASHES:
                    break
                group.append(each)
            del self._waiting[: len(group)]
            return group

    def _write(self, group: list[_Request]) -> None:
        """Record those of these requests that are new, and give each its outcome."""
        keys: set[str] = set()
        new, repeated = [], []
        try:
            # A checkpoint may make the history forget a deletion.
            with self._journal.quiet():
                for each in group:
                    key = each.body.idempotency
                    if key in keys:
                        repeated.append(each)
                    elif self._is_new(each):
                        new.append(each)
                        keys |= {key} if key is not None else set()
                self._journal.append_deletions("request", [each.body for each in new])
                for each in new:
                    each.outcome = Accepted(self._journal.history.deletions[each.body.id], each.body, new=True)
        except BaseException as error:
            for each in group:
                each.outcome = each.outcome or error
            repeated.clear()
        with self._changed:
            # The next record finds the requests that they repeat in the history.
            self._waiting[:0] = repeated
            self._writing = False
            self._changed.notify_all()

    def _is_new(self, request: _Request) -> bool:
        """Whether a request is to be recorded; otherwise it has its outcome."""
        body, history = request.body, self._journal.history
        try:
            deletion_id = None if body.idempotency is None else history.by_idempotency.get(body.idempotency)
            if deletion_id is None:
                self._allowance.take(body.unknown, rows=len(body.samples))
                return True
            if history.bodies[deletion_id].body != body.body:
                raise IdempotencyConflictError(
                    f"this idempotency key belongs to deletion {deletion_id}, which named other ids"
                )
            request.outcome = Accepted(history.deletions[deletion_id], history.bodies[deletion_id], new=False)
        except LMEraserError as error:
            request.outcome = error
        return False
