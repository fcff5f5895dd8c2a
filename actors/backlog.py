"""Requests that wait for their rows to be erased. One that fails does not hold up the others (decision 40)."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from actors.owners import is_transient
from lmeraser.errors import LMEraserError, OwnerFailedError

MIN_BACKOFF_S = 1.0
LONGEST_PAUSE_S = 60.0
# The store's medium may recover at any moment.
STORE_PAUSE_S = 2.0
_log = logging.getLogger(__name__)


@dataclass
class _Request:
    """Whether a request is erased alone, before all others, or set aside; why it last failed, when it may be tried."""

    alone: bool = False
    bound: bool = False
    reason: str = ""
    pause_s: float = 0.0
    not_before: float = -math.inf
    aside: bool = False


@dataclass
class Backlog:
    """Requests are erased together, in the order of their arrival; after a failure each of them is erased alone.

    So it does not matter which of them caused the failure: all that can be erased are erased. A request that fails
    alone is put off, first by 1 s and at most by a minute. It is never given up.

    Attributes:
        clock: seconds that only grow.
    """

    clock: Callable[[], float] = time.monotonic
    _requests: dict[str, _Request] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._requests)

    def add(self, request_id: str, *, bound: bool = False) -> None:
        """Add a request. Safe to call from another thread.

        Args:
            request_id: the request.
            bound: whether it is for exactly what its preview said, so that nothing may be committed before it.
        """
        self._requests[request_id] = _Request(bound=bound)

    def due(self) -> list[str]:
        """The requests to erase now, in one commit."""
        now = self.clock()
        waiting = [(name, request) for name, request in list(self._requests.items()) if not request.aside]
        due = [name for name, request in waiting if request.not_before <= now]
        if bound := [name for name in due if self._requests[name].bound]:
            return bound[:1]
        # The oldest decides, so that neither the requests that are erased alone nor the others starve.
        if due and self._requests[due[0]].alone:
            return due[:1]
        return [name for name in due if not self._requests[name].alone]

    def failed(self, request_ids: Sequence[str], reason: str, longest_s: float = LONGEST_PAUSE_S) -> None:
        """Note that these could not be erased together; one that fails alone is put off by at most ``longest_s``."""
        for name in request_ids:
            # To the end: if its tries take longer than its pauses, it would be due again before the others.
            request = self._requests[name] = self._requests.pop(name)
            request.alone, request.aside = True, False
            if len(request_ids) == 1:
                request.reason = reason
                request.pause_s = min(2 * request.pause_s or MIN_BACKOFF_S, longest_s)
                request.not_before = self.clock() + request.pause_s

    def set_aside(self, request_ids: Iterable[str]) -> None:
        """Note that these are not due until they have failed, because somebody else works on them."""
        for name in request_ids:
            self._requests[name].aside = True

    def put_off(self, request_ids: Sequence[str], error: LMEraserError) -> bool:
        """Like :meth:`failed`; False for an error that needs a restart of the coordinator."""
        if not (isinstance(error, OwnerFailedError) or is_transient(error)):
            return False
        _log.error("%d erasure(s) failed and will be retried: %s", len(request_ids), error)
        self.failed(request_ids, str(error), LONGEST_PAUSE_S if isinstance(error, OwnerFailedError) else STORE_PAUSE_S)
        return True

    def done(self, request_id: str) -> None:
        """Note that a request's rows are erased."""
        self._requests.pop(request_id, None)

    def held_up(self) -> dict[str, str]:
        """The requests that have failed alone, with the reason."""
        return {name: request.reason for name, request in list(self._requests.items()) if request.reason}
