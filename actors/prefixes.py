"""The prefixes below which ingests write their rows.

The store is never read or written while the lock is held, so a renewal never waits for it (decision 17).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from actors.incoming import COMPANION, ROWS, read_companion, short_hashes, short_hashes_of
from lmeraser.errors import RequestError
from lmeraser.state.layout import INCOMING, new_incoming_prefix
from lmeraser.store import Store

# A job that writes rows renews its prefix twice a second; without a renewal for so long, it has ended.
EXPIRY_S = 60.0
WATCH_S = 5.0


@dataclass
class _Prefix:
    """One open prefix.

    Attributes:
        begun: number of the newest log record when it began.
        renewed_s: when it was last renewed; None once it is handed over and waits to be added.
        hashes: short hashes of the companions that were read, by their names.
    """

    begun: int
    renewed_s: float | None
    hashes: dict[str, np.ndarray] = field(default_factory=dict)


class Prefixes:
    """The prefixes below which rows are being written, or wait to be added. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._open: dict[str, _Prefix] = {}
        # Short hashes of ids that are being erased, with the number of the record that names them.
        self._forbidden: dict[str, int] = {}
        self._dropped = False
        self._checked_s = time.monotonic()

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
        """Note that rows are still being written. Raises RequestError when the prefix was dropped."""
        with self._lock:
            self._written(prefix).renewed_s = time.monotonic()

    def hand_over(self, prefix: str) -> int:
        """Note that its rows are complete and wait to be added; gives the number of the record at which it began.

        Raises:
            RequestError: when the prefix was dropped.
        """
        with self._lock:
            state = self._written(prefix)
            state.renewed_s = None
            return state.begun

    def check(self, prefix: str) -> None:
        """Raise RequestError if a prefix that was handed over has been dropped."""
        with self._lock:
            if prefix not in self._open:
                raise _dropped_error()

    def added(self, prefix: str) -> None:
        """Note that its rows were added or refused: the next sweep removes the objects below it."""
        with self._lock:
            self._open.pop(prefix, None)

    def drop(self, prefix: str) -> None:
        """Drop a prefix that was not handed over; its rows are never added."""
        with self._lock:
            if prefix in self._open and self._open[prefix].renewed_s is not None:
                del self._open[prefix]
                self._dropped = True

    def forbid(self, hashes: Iterable[str], number: int) -> None:
        """Note that these ids are being erased: the next sweep drops ingests that began before and hold one of them.

        Args:
            hashes: keyed hashes of samples and subjects.
            number: of the newest log record; an ingest that begins after the erasure begins at a later one.
        """
        with self._lock:
            if self._open:
                self._forbidden.update(dict.fromkeys(hashes, number))

    def drop_expired(self) -> bool:
        """Drop the prefixes that were not renewed; whether any prefix was dropped since the last sweep."""
        with self._lock:
            oldest_s = time.monotonic() - EXPIRY_S
            for prefix, state in list(self._open.items()):
                if state.renewed_s is not None and state.renewed_s < oldest_s:
                    del self._open[prefix]
                    self._dropped = True
            return self._dropped

    def drop_forbidden(self) -> None:
        """Drop the prefixes below which there is a row that is being erased. Only one thread may call this."""
        with self._lock:
            self._dropped = False
            forbidden = dict(self._forbidden)
            candidates = dict(self._open) if forbidden else {}
        for prefix, state in candidates.items():
            for name in self._store.names(prefix):
                if name.endswith(COMPANION) and name not in state.hashes:
                    index = read_companion(self._store, f"{name.removesuffix(COMPANION)}{ROWS}")
                    state.hashes[name] = short_hashes_of(index)
            later = short_hashes(each for each, number in forbidden.items() if number >= state.begun)
            if any(np.isin(later, hashes).any() for hashes in state.hashes.values()):
                with self._lock:
                    self._open.pop(prefix, None)
        with self._lock:
            if not self._open:
                self._forbidden.clear()

    def needs_sweep(self) -> bool:
        """Whether to sweep although nothing was dropped.

        Every 5 s while an ingest may still write rows that were erased after it began; otherwise, once a minute, if
        there are rows outside all open prefixes, such as those of a worker that outlived its ingest.
        """
        waited_s = time.monotonic() - self._checked_s
        with self._lock:
            watched = bool(self._forbidden)
        if waited_s < (WATCH_S if watched else EXPIRY_S):
            return False
        self._checked_s = time.monotonic()
        return watched or not all(map(self.keeps, self._store.names(INCOMING)))

    def keeps(self, name: str) -> bool:
        """Whether an object is below an open prefix."""
        with self._lock:
            return f"{name.rpartition('/')[0]}/" in self._open

    def _written(self, prefix: str) -> _Prefix:
        state = self._open.get(prefix)
        if state is None or state.renewed_s is None:
            raise _dropped_error()
        return state


def _dropped_error() -> RequestError:
    return RequestError(
        "the ingest cannot continue: the coordinator was restarted, a row of the ingest was erased in between, or it "
        f"was not renewed for {EXPIRY_S:.0f} s. None of its rows was added; start it again"
    )
