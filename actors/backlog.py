"""Requests that wait for their rows to be erased: one that fails does not hold up the others."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from actors.owners import is_transient
from lmeraser.errors import LMEraserError, OwnerFailedError

MIN_BACKOFF_S = 1.0
LONGEST_PAUSE_S = 60.0
# The medium of the store may be well again at any moment.
STORE_PAUSE_S = 2.0
_log = logging.getLogger(__name__)


@dataclass
class _Request:
    """Whether a request goes alone, why it failed then, and when it may be tried again."""

    alone: bool = False
    reason: str = ""
    pause_s: float = 0.0
    not_before: float = -math.inf


@dataclass
class Backlog:
    """All of them go together, in the order in which they came; after a failure each of those goes alone.

    Nobody needs to know which of them was to blame: those that can be erased are, and one that fails alone is put off,
    1 s at first and up to a minute at last. It is never given up.

    Attributes:
        clock: seconds that only grow.
    """

    clock: Callable[[], float] = time.monotonic
    _requests: dict[str, _Request] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._requests)

    def add(self, request_id: str) -> None:
        """A request has come. Safe to call from another thread."""
        self._requests[request_id] = _Request()

    def due(self) -> list[str]:
        """The requests to erase now, in one commit."""
        now = self.clock()
        due = [name for name, request in list(self._requests.items()) if request.not_before <= now]
        # The oldest decides, so that neither those that go alone nor the others wait for ever.
        if due and self._requests[due[0]].alone:
            return due[:1]
        return [name for name in due if not self._requests[name].alone]

    def failed(self, request_ids: Sequence[str], reason: str, longest_s: float = LONGEST_PAUSE_S) -> None:
        """These could not be erased together; one that fails alone is put off for so long at most."""
        for name in request_ids:
            request = self._requests[name]
            request.alone = True
            if len(request_ids) == 1:
                request.reason = reason
                request.pause_s = min(2 * request.pause_s or MIN_BACKOFF_S, longest_s)
                request.not_before = self.clock() + request.pause_s

    def put_off(self, request_ids: Sequence[str], error: LMEraserError) -> bool:
        """See :meth:`failed`; False for an error that only a new start of the coordinator may mend."""
        if not (isinstance(error, OwnerFailedError) or is_transient(error)):
            return False
        _log.error("%d erasure(s) could not be made and are tried again: %s", len(request_ids), error)
        self.failed(request_ids, str(error), LONGEST_PAUSE_S if isinstance(error, OwnerFailedError) else STORE_PAUSE_S)
        return True

    def done(self, request_id: str) -> None:
        """This one is erased."""
        del self._requests[request_id]

    def held_up(self) -> dict[str, str]:
        """Requests that are put off, with the reason."""
        return {name: request.reason for name, request in list(self._requests.items()) if request.reason}
