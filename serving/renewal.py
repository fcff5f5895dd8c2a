"""Looks that renew a lease: they begin at a fixed pace, whatever a replica is asked and however slow its store is."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from lmeraser.errors import LMEraserError
from serving.lease import MOST_LOOKS, Lease

# A look may take three quarters of the lease until one is missed.
LOOKS_A_LEASE = 4

logger = logging.getLogger(__name__)
# When a look was sent, and why it failed; None where it did not.
Looked = Callable[[float, Exception | None], None]


class Renewal:
    """Looks of one replica, at most MOST_LOOKS at a time; none waits for another, and no request for any."""

    def __init__(self, lease: Lease, looked: Looked) -> None:
        """Nothing is done before :meth:`start`.

        Args:
            lease: to renew.
            looked: called after each look, from its thread.
        """
        self._lease = lease
        self._looked = looked
        self._interval_s = lease.lease_s / LOOKS_A_LEASE
        self._lock = threading.Lock()
        self._on_their_way = 0
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin a look now, and one after each interval."""
        threading.Thread(target=self._run, name="renewal", daemon=True).start()

    def stop(self) -> None:
        """Begin no look any more."""
        self._stopped.set()

    def begin(self) -> bool:
        """Begin a look without waiting for it; False where as many as may be are on their way."""
        with self._lock:
            # The first reads the whole log, and is not made several times over.
            if self._on_their_way >= (MOST_LOOKS if self._lease.has_seen else 1):
                return False
            self._on_their_way += 1
        threading.Thread(target=self._look, name="look", daemon=True).start()
        return True

    def _run(self) -> None:
        self.begin()
        while not self._stopped.wait(self._interval_s):
            self.begin()

    def _look(self) -> None:
        sent_at = time.monotonic()
        failure: Exception | None = None
        try:
            self._lease.look()
        except LMEraserError as error:
            failure = error
        except Exception as error:
            logger.exception("a look for newer commits failed")
            failure = error
        finally:
            with self._lock:
                self._on_their_way -= 1
        self._looked(sent_at, failure)
