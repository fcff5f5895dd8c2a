"""The prefixes under which ingests write their rows.

Nothing is read or written while the lock is held: a renewal never waits for the store.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from actors.ingests import COMPANION, short_hashes
from lmeraser.errors import RequestError
from lmeraser.state.layout import INCOMING, new_incoming_prefix
from lmeraser.store import Store

# A job that writes rows renews its prefix twice a second; one that is silent for so long has ended.
SILENCE_S = 60.0
WATCH_S = 5.0


@dataclass
class _Prefix:
    """Attributes:
    begun: number of the newest log record when it began.
    heard_s: when it was renewed last; None once it is handed over and waits to be added.
    read: companions that were read, and what they hold.
    """

    begun: int
    heard_s: float | None
    read: dict[str, np.ndarray] = field(default_factory=dict)


class Prefixes:
    """The prefixes under which rows are being written, or wait to be added. Methods may be called from any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._open: dict[str, _Prefix] = {}
        # Short hashes of ids that are being erased, with the number of the record that names them.
        self._forbidden: dict[str, int] = {}
        self._dropped = False
        self._looked_s = time.monotonic()

    def begin(self, number: int) -> str:
        """A new prefix; it must be renewed until it is handed over.

        Args:
            number: of the newest log record.
        """
        prefix = new_incoming_prefix()
        with self._lock:
            self._open[prefix] = _Prefix(number, time.monotonic())
        return prefix

    def renew(self, prefix: str) -> None:
        """Say that rows are still being written. Raises RequestError when the prefix was dropped."""
        with self._lock:
            self._written(prefix).heard_s = time.monotonic()

    def hand_over(self, prefix: str) -> int:
        """Its rows are complete and wait to be added; gives the number that it began at.

        Raises:
            RequestError: when the prefix was dropped.
        """
        with self._lock:
            state = self._written(prefix)
            state.heard_s = None
            return state.begun

    def check(self, prefix: str) -> None:
        """Check that a prefix which was handed over is still to be added. Raises RequestError when it was dropped."""
        with self._lock:
            if prefix not in self._open:
                raise _dropped()

    def added(self, prefix: str) -> None:
        """Its rows were added, or refused: the next sweep removes what lies under it."""
        with self._lock:
            self._open.pop(prefix, None)

    def drop(self, prefix: str) -> None:
        """Give up a prefix that was not handed over; its rows are never added."""
        with self._lock:
            if prefix in self._open and self._open[prefix].heard_s is not None:
                del self._open[prefix]
                self._dropped = True

    def forbid(self, hashes: Iterable[str], number: int) -> None:
        """These ids are being erased: an ingest that began before and holds one is dropped before the next sweep.

        Args:
            hashes: keyed hashes of samples and subjects.
            number: of the newest log record; what begins after the erasure begins at a later one.
        """
        with self._lock:
            if self._open:
                self._forbidden.update(dict.fromkeys(hashes, number))

    def drop_silent(self) -> bool:
        """Drop the prefixes that nobody renews; whether any prefix was dropped since the last sweep."""
        with self._lock:
            oldest_s = time.monotonic() - SILENCE_S
            for prefix, state in list(self._open.items()):
                if state.heard_s is not None and state.heard_s < oldest_s:
                    del self._open[prefix]
                    self._dropped = True
            return self._dropped

    def drop_forbidden(self) -> None:
        """Drop the prefixes under which a row lies that is being erased. Called by one thread alone."""
        with self._lock:
            self._dropped = False
            forbidden = dict(self._forbidden)
            looked_at = dict(self._open) if forbidden else {}
        for prefix, state in looked_at.items():
            for name in self._store.names(prefix):
                if name.endswith(COMPANION) and name not in state.read:
                    state.read[name] = np.frombuffer(self._store.get(name), "<u8")
            later = short_hashes(each for each, number in forbidden.items() if number >= state.begun)
            if any(np.isin(later, hashes).any() for hashes in state.read.values()):
                with self._lock:
                    self._open.pop(prefix, None)
        with self._lock:
            if not self._open:
                self._forbidden.clear()

    def strays(self) -> bool:
        """Whether to sweep: once a minute, where rows lie where no ingest puts any, as those of a worker that outlived
        its ingest; every few seconds, while an ingest may still write rows that were erased after it began.
        """
        waited_s = time.monotonic() - self._looked_s
        with self._lock:
            watched = bool(self._forbidden)
        if waited_s < (WATCH_S if watched else SILENCE_S):
            return False
        self._looked_s = time.monotonic()
        return watched or not all(map(self.keeps, self._store.names(INCOMING)))

    def keeps(self, name: str) -> bool:
        """Whether an object lies under a prefix that rows are written to or that waits to be added."""
        with self._lock:
            return f"{name.rpartition('/')[0]}/" in self._open

    def _written(self, prefix: str) -> _Prefix:
        state = self._open.get(prefix)
        if state is None or state.heard_s is None:
            raise _dropped()
        return state


def _dropped() -> RequestError:
    return RequestError(
        "the ingest cannot go on: the coordinator started anew, a row of it was erased meanwhile, or nothing was heard "
        f"of it for {SILENCE_S:.0f} s. None of its rows was added; start it again"
    )
