"""Polls that renew a lease, at a fixed pace: independent of the requests that a replica gets and of slow polls."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from lmeraser.errors import LMEraserError
from serving.lease import MAX_POLLS, Lease

# A poll may take three quarters of the lease before the lease lapses.
POLLS_PER_LEASE = 4

logger = logging.getLogger(__name__)
# Called with the time at which a poll was sent, and why it failed; None when it succeeded.
OnPoll = Callable[[float, Exception | None], None]


class Renewal:
    """The polls of one replica, at most MAX_POLLS at a time. Neither polls nor requests wait for a poll to end."""

    def __init__(self, lease: Lease, on_poll: OnPoll) -> None:
        """Does nothing before :meth:`start`.

        Args:
            lease: to renew.
            on_poll: called after each poll, in the poll's thread.
        """
        self._lease = lease
        self._on_poll = on_poll
        self._interval_s = lease.lease_s / POLLS_PER_LEASE
        self._lock = threading.Lock()
        self._pending = 0
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin a poll now, and one after each interval."""
        threading.Thread(target=self._run, name="renewal", daemon=True).start()

    def stop(self) -> None:
        """Begin no further poll."""
        self._stopped.set()

    def begin(self) -> bool:
        """Begin a poll without waiting for it; False when the maximum number is pending."""
        with self._lock:
            # The first poll reads the whole log, so only one is made.
            if self._pending >= (MAX_POLLS if self._lease.has_records else 1):
                return False
            self._pending += 1
        threading.Thread(target=self._poll, name="poll", daemon=True).start()
        return True

    def _run(self) -> None:
        self.begin()
        while not self._stopped.wait(self._interval_s):
            self.begin()

    def _poll(self) -> None:
        sent_at = time.monotonic()
        failure: Exception | None = None
        try:
            self._lease.poll()
        except LMEraserError as error:
            failure = error
        except Exception as error:
            logger.exception("a poll for newer commits failed")
            failure = error
        finally:
            with self._lock:
                self._pending -= 1
        self._on_poll(sent_at, failure)
