"""The numbered, hash-chained log: the single source of truth about what was requested and what is current.

Record n is the object ``log/<n>.json``, written only if absent; it contains the SHA-256 of record n-1. Bodies contain
keyed hashes only, never ids. Their fields are in :mod:`lmeraser.state.record_bodies`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from lmeraser.clock import utc_now
from lmeraser.errors import FencedError, LogError, ObjectMissingError, StoreError
from lmeraser.hashing import canonical_json
from lmeraser.parallel import in_parallel
from lmeraser.state.layout import LOG, record_object
from lmeraser.store import Store

Kind = Literal[
    "term",
    "policy",
    "request",
    "approved",
    "declined",
    "commit",
    "erased",
    "attempt",
    "completed",
    "failed",
    "retry",
    "rebuild",
]
GENESIS = "0" * 64
_AT_A_TIME = 16


@dataclass(frozen=True)
class Record:
    """One record of the log.

    Attributes:
        number: 1, 2, 3, …
        kind: what the body is about.
        term: number of the coordinator start that wrote it.
        previous: SHA-256 of the record before it, as hex digits.
        at: when it was written, ISO 8601, UTC.
        body: what happened, as a JSON object.
        digest: SHA-256 of this record's bytes, as hex digits.
        size_bytes: how many these are; 0 for the head in a checkpoint.
    """

    number: int
    kind: Kind
    term: int
    previous: str
    at: str
    body: dict[str, Any]
    digest: str
    size_bytes: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Position:
    """The term that a process works for, and the number of the last record that it knows."""

    term: int
    number: int


class Log:
    """Reads and appends records. Its position is the last record that it has seen."""

    def __init__(self, store: Store, head: Record | None = None) -> None:
        """Begin before the first record, or at ``head``, the last one that another Log has seen."""
        self._store = store
        self._head = head

    @classmethod
    def at_end(cls, store: Store) -> Log:
        """Begin at the last record, which is found by listing. The ones before it are not read.

        Raises:
            LogError: when the name of one is missing.
        """
        names = _listed(store)
        log = cls(store)
        return cls(store, log.record(len(names))) if names else log

    @property
    def head(self) -> Record | None:
        """The last record seen; None before the first."""
        return self._head

    def advance(self) -> list[Record]:
        """Read the records that were added since, oldest first, and move the position to the last one.

        Raises:
            LogError: when the chain is broken.
            StoreError: when the last record seen cannot be found any more, so that nothing is known about newer ones.
        """
        added: list[Record] = []
        if self._head is None:
            added.extend(self._all_listed())
        added.extend(self._from(added[-1].number if added else (self._head.number if self._head else 0)))
        if not added:
            self.check_in_sight()
        for record in added:
            _check_follows(self._head, record)
            self._head = record
        return added

    def next(self) -> Record | None:
        """Read the record after the position, and move there; None when there is none, or it cannot be found.

        Raises:
            LogError: when the chain is broken.
        """
        record = _read(self._store, (self._head.number if self._head else 0) + 1)
        if record is not None:
            _check_follows(self._head, record)
            self._head = record
        return record

    def check_in_sight(self) -> None:
        """Check that the last record seen is still there (decision 10): in an unmounted folder, all look absent.

        Raises:
            StoreError: when it is not.
        """
        if self._head is not None and not self._store.exists(record_object(self._head.number)):
            raise StoreError(f"log record {self._head.number} was in {self._store.uri} and is missing now")

    def record(self, number: int) -> Record:
        """The record with this number.

        Raises:
            LogError: when there is none.
        """
        record = _read(self._store, number)
        if record is None:
            raise LogError(f"the log has no record {number}")
        return record

    def append(self, kind: Kind, term: int, body: dict[str, Any]) -> Record:
        """Add a record after the position.

        Raises:
            LostRaceError: when another process has added one there first: call advance, and decide again.
        """
        number = self._head.number + 1 if self._head else 1
        previous = self._head.digest if self._head else GENESIS
        data = canonical_json(
            {"number": number, "kind": kind, "term": term, "previous": previous, "at": self.now(), "body": body}
        )
        self._store.put_if_absent(record_object(number), data)
        self._head = _parse(number, data)
        return self._head

    def now(self) -> str:
        """The time, ISO 8601 in UTC; never earlier than the last record seen, even if the machine's clock goes back."""
        now = utc_now()
        return max(now, self._head.at) if self._head else now

    def _from(self, number: int) -> Iterator[Record]:
        """The records after this number. Where there is one there may be many, so further ones are read in parallel."""
        if (record := _read(self._store, number + 1)) is None:
            return
        yield record
        start = number + 2
        while True:
            for record in self._several(start):
                if record is None:
                    return
                yield record
            start += _AT_A_TIME

    def _all_listed(self) -> Iterator[Record]:
        names = _listed(self._store)
        for start in range(1, len(names) + 1, _AT_A_TIME):
            numbers = range(start, min(start + _AT_A_TIME, len(names) + 1))
            for number, record in zip(numbers, self._several(start, len(numbers)), strict=True):
                if record is None:
                    raise LogError(f"log record {number} vanished while it was read")
                yield record

    def _several(self, start: int, count: int = _AT_A_TIME) -> list[Record | None]:
        # A bucket takes tens of milliseconds per record, and a start must not wait for them one by one.
        return in_parallel(lambda number: _read(self._store, number), range(start, start + count))


def check_term(store: Store, position: Position) -> None:
    """Check that no coordinator has taken over: read the records after the position.

    Raises:
        FencedError: when one of them is of a later term.
    """
    number = position.number + 1
    while (record := _read(store, number)) is not None:
        if record.term > position.term:
            raise FencedError(f"a coordinator of term {record.term} has taken over from term {position.term}")
        number += 1


def _listed(store: Store) -> list[str]:
    """The names of all records. Raises LogError when one is missing before the last."""
    names = store.names(LOG)
    for number, name in enumerate(names, start=1):
        if name != record_object(number):
            raise LogError(f"log record {number} is missing: found {name} in its place")
    return names


def _read(store: Store, number: int) -> Record | None:
    try:
        return _parse(number, store.get(record_object(number)))
    except ObjectMissingError:
        return None


def _parse(number: int, data: bytes) -> Record:
    try:
        record = Record(**json.loads(data), digest=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
    except (ValueError, TypeError) as error:
        raise LogError(f"log record {number} cannot be read: {error}") from error
    if record.number != number:
        raise LogError(f"log record {number} says that it is number {record.number}")
    return record


def _check_follows(before: Record | None, record: Record) -> None:
    number, previous = (before.number, before.digest) if before else (0, GENESIS)
    if record.number != number + 1:
        raise LogError(f"log record {number + 1} is missing: found {record.number} in its place")
    if record.previous != previous:
        raise LogError(f"log record {record.number} does not follow record {number}: one of the two was changed")
