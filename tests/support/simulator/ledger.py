"""What was asked for and what was answered, told by the clients; and what the log says, read as it is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from lmeraser.state.commit import Commit
from lmeraser.state.log import Record
from simulator.rows import ALL, HASH_KEY, SUBJECTS, Row


@dataclass(eq=False)
class RequestedDeletion:
    """One deletion that a client asks for.

    Attributes:
        key: its idempotency key.
        samples, subjects: ids that it names; those of samples as row numbers.
        recorded_at: when the log had it, as a count of the history's points; None while it has not.
        answered: the id that a client was told.
    """

    key: str
    samples: tuple[int, ...]
    subjects: tuple[str, ...]
    id: str | None = None
    record: int | None = None
    recorded_at: int | None = None
    committed: int | None = None
    committed_at: int | None = None
    erased: bool = False
    completed: bool = False
    answered: str | None = None

    def names(self, row: int) -> bool:
        """Whether it is about this row."""
        return row in self.samples or SUBJECTS[row] in self.subjects


@dataclass(eq=False)
class Ingested:
    """One ingest that a client makes.

    Attributes:
        asked_at, began_at: when its prefix was asked for, and when it was made.
        succeeded: whether its client was told that the rows are there.
        ended_at: when it was told.
    """

    rows: tuple[Row, ...]
    force: bool
    prefix: str = ""
    asked_at: int = -1
    began_at: int = -1
    succeeded: bool = False
    ended_at: int = -1


@dataclass
class Ledger:
    """The state of a history as an onlooker knows it.

    Attributes:
        commit: the newest.
        newest: name of the process that opened the newest term.
    """

    asked: list[RequestedDeletion] = field(default_factory=list)
    ingested: list[Ingested] = field(default_factory=list)
    commit: Commit | None = None
    newest: str = ""
    term: int = 0
    restoring: bool = False

    def forget(self, records: int, copied_at: int) -> None:
        """The store is an older copy now, and of the log only so many records are known."""
        self.restoring = True
        self.commit = None
        for one in self.asked:
            if one.record is not None and one.record > records:
                one.id = one.answered = one.recorded_at = one.record = None
            one.erased = one.completed = False
            one.committed = one.committed_at = None
        for ingest in self.ingested:
            ingest.succeeded &= ingest.ended_at <= copied_at

    def read(self, log: Iterable[bytes], at: int) -> None:
        """Take in the records of a log that is there; those of which nothing is known have come by now."""
        self.restoring = False
        self.term = 0
        for data in log:
            self.record(data, self.newest, at)

    def deletion(self, deletion_id: str) -> RequestedDeletion | None:
        """The deletion with this id, as far as a client asked for it."""
        return next((one for one in self.asked if one.id == deletion_id), None)

    def record(self, data: bytes, process: str, at: int) -> tuple[str, list[RequestedDeletion]]:
        """Take in a record; its kind, and the deletions that it is about."""
        value = json.loads(data)
        kind, body = value["kind"], value["body"]
        about: list[RequestedDeletion] = []
        if kind == "term":
            self.newest, self.term = process, value["term"]
        elif kind == "request":
            for one in self.asked:
                if HASH_KEY.of("idempotency", one.key) == body["idempotency"]:
                    one.id, one.record = body["id"], value["number"]
                    one.recorded_at = at if one.recorded_at is None else one.recorded_at
                    about.append(one)
        elif kind == "commit":
            self.commit = Commit.from_record(Record(**value, digest=hashlib.sha256(data).hexdigest()))
            for one in (self.deletion(each.id) for each in self.commit.erasures):
                if one is not None:
                    one.committed, one.committed_at = value["number"], at
                    about.append(one)
        elif (one := self.deletion(body.get("id", ""))) is not None:
            one.erased |= kind == "erased"
            one.completed |= kind == "completed"
            about.append(one)
        return kind, about

    def may_hold(self, row: int, deletion: RequestedDeletion) -> bool:
        """Whether the row may be there although this deletion names it: it was brought back with force since."""
        assert deletion.recorded_at is not None
        return any(
            one.force and one.began_at > deletion.recorded_at and row in {each.number for each in one.rows}
            for one in self.ingested
        )

    def gone(self) -> set[int]:
        """Rows that no object may hold now: an erased deletion names them."""
        return {
            row
            for one in self.asked
            if one.erased
            for row in range(len(SUBJECTS))
            if one.names(row) and not self.may_hold(row, one)
        }

    def unwanted(self) -> set[int]:
        """Rows that may not be there at rest: a deletion that was answered names them."""
        return {
            row
            for one in self.asked
            if one.answered is not None and one.recorded_at is not None
            for row in range(len(SUBJECTS))
            if one.names(row) and not self.may_hold(row, one)
        }

    def due(self) -> set[int]:
        """Rows that must be there at rest: an ingest brought them, and no deletion that counts for it names them."""
        found: set[int] = set()
        for ingest in self.ingested:
            if not ingest.succeeded:
                continue
            for row in {each.number for each in ingest.rows}:
                naming = [one for one in self.asked if one.names(row)]
                after = [one for one in naming if one.recorded_at is None or one.recorded_at > ingest.asked_at]
                if not (after if ingest.force else naming):
                    found.add(row)
        return found


def rows_in(tables: Collection[Any]) -> set[Row]:
    """The rows in these tables."""
    by_image = {row.image: row for row in ALL}
    return {by_image[image] for table in tables for image in table.images}
