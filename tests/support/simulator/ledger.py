"""Clients' requests and answers, and the content of the log, which is read as it is written."""

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
    """One deletion that a client requests.

    Attributes:
        key: its idempotency key.
        samples, subjects: ids that it names; those of samples as row numbers.
        recorded_at: when it was recorded, as a count of the history's points; None before.
        answered: the id in the answer to a client.
        previews: what its client's previews have said, as pairs of a commit and the root after the erasure.
        undecided: whether it waits for an approval, or was declined.
        decision: number of the record that approved or declined it; None before.
        whole: whether all of its rows were erased.
        promised: the root that its record names, if it is to be erased as previewed.
        overtaken: whether something else was committed between its record and the end of its erasure, or the store was
            restored.
    """

    key: str
    samples: tuple[int, ...] = ()
    subjects: tuple[str, ...] = ()
    id: str | None = None
    record: int | None = None
    recorded_at: int | None = None
    committed: int | None = None
    committed_at: int | None = None
    erased: bool = False
    completed: bool = False
    answered: str | None = None
    previews: set[tuple[int, str]] = field(default_factory=set)
    promised: str | None = None
    overtaken: bool = False
    whole: bool = False
    undecided: bool = False
    decision: int | None = None

    def names(self, row: int) -> bool:
        """Whether it names this row."""
        return row in self.samples or SUBJECTS[row] in self.subjects


@dataclass(eq=False)
class Ingested:
    """One ingest that a client makes.

    Attributes:
        requested_at, began_at: when its prefix was requested, and when it was made.
        succeeded: whether its client was answered that the rows are added.
        ended_at: when its client was answered.
    """

    rows: tuple[Row, ...]
    force: bool
    prefix: str = ""
    requested_at: int = -1
    began_at: int = -1
    succeeded: bool = False
    ended_at: int = -1


@dataclass
class Ledger:
    """The state of a history as an observer knows it.

    Attributes:
        commit: the newest commit.
        newest: name of the process that opened the newest term.
    """

    requested: list[RequestedDeletion] = field(default_factory=list)
    ingested: list[Ingested] = field(default_factory=list)
    commit: Commit | None = None
    newest: str = ""
    term: int = 0
    restoring: bool = False

    def named(self, key: str) -> RequestedDeletion:
        """The deletion with this idempotency key, also before it is requested."""
        for deletion in self.requested:
            if deletion.key == key:
                return deletion
        self.requested.append(RequestedDeletion(key))
        return self.requested[-1]

    def forget(self, records: int, copied_at: int) -> None:
        """Note that the store is now an older copy, and that only this number of records of the log is known."""
        self.restoring = True
        self.commit = None
        for deletion in self.requested:
            if deletion.record is not None and deletion.record > records:
                deletion.id = deletion.answered = deletion.recorded_at = deletion.record = None
                deletion.undecided = False
            if deletion.decision is not None and deletion.decision > records:
                deletion.decision = deletion.recorded_at = None
            deletion.overtaken, deletion.whole = deletion.record is not None, False
            deletion.erased = deletion.completed = False
            deletion.committed = deletion.committed_at = None
        for ingest in self.ingested:
            ingest.succeeded &= ingest.ended_at <= copied_at

    def read(self, log: Iterable[bytes], at: int) -> None:
        """Replay an existing log; deletions that were unknown so far count as recorded now."""
        self.restoring = False
        self.term = 0
        for data in log:
            self.record(data, self.newest, at)

    def deletion(self, deletion_id: str) -> RequestedDeletion | None:
        """The deletion with this id, if a client requested it."""
        return next((deletion for deletion in self.requested if deletion.id == deletion_id), None)

    def record(self, data: bytes, process: str, at: int) -> tuple[str, list[RequestedDeletion]]:
        """Replay a record; gives its kind and the deletions that it is about."""
        value = json.loads(data)
        kind, body = value["kind"], value["body"]
        about: list[RequestedDeletion] = []
        if kind == "term":
            self.newest, self.term = process, value["term"]
        elif kind == "request":
            ids = {each["idempotency"]: each["id"] for each in body["deletions"]}
            for deletion in self.requested:
                if (key := HASH_KEY.of("idempotency", deletion.key)) in ids:
                    deletion.id, deletion.record = ids[key], value["number"]
                    bodies = {each["id"]: each for each in body["deletions"]}
                    deletion.promised = bodies[ids[key]].get("previewed")
                    deletion.undecided = bodies[ids[key]]["awaits_approval"]
                    if not deletion.undecided and deletion.recorded_at is None:
                        deletion.recorded_at = at
                    about.append(deletion)
        elif kind == "commit":
            record = Record(**value, digest=hashlib.sha256(data).hexdigest())
            self.commit = Commit.from_record(record, self.commit)
            erased = {erasure.id for erasure in self.commit.erasures}
            for deletion in self.requested:
                deletion.overtaken |= deletion.id is not None and not deletion.whole and deletion.id not in erased
            whole = {erasure.id for erasure in self.commit.erasures if not erasure.remaining}
            for erasing in filter(None, (self.deletion(erasure.id) for erasure in self.commit.erasures)):
                erasing.committed, erasing.committed_at = value["number"], at
                erasing.whole |= erasing.id in whole
                about.append(erasing)
        else:
            named = {each["id"] for each in body.get("deletions", ())}
            about += [deletion for deletion in self.requested if deletion.id in named]
            for deletion in about:
                if kind in ("approved", "declined"):
                    deletion.decision, deletion.undecided = value["number"], kind == "declined"
                if kind == "approved":
                    deletion.overtaken = False
                    deletion.recorded_at = at if deletion.recorded_at is None else deletion.recorded_at
                deletion.erased |= kind == "erased"
                deletion.completed |= kind == "completed"
        return kind, about

    def may_hold(self, row: int, deletion: RequestedDeletion) -> bool:
        """Whether the row may be stored although this deletion names it: it was ingested again with force since."""
        assert deletion.recorded_at is not None
        return any(
            ingest.force and ingest.began_at > deletion.recorded_at and row in {each.number for each in ingest.rows}
            for ingest in self.ingested
        )

    def erased_rows(self) -> set[int]:
        """Rows that no object may hold now, because an erased deletion names them."""
        return {
            row
            for deletion in self.requested
            if deletion.erased
            for row in range(len(SUBJECTS))
            if deletion.names(row) and not self.may_hold(row, deletion)
        }

    def unwanted(self) -> set[int]:
        """Rows that may not be stored at rest, because an acknowledged deletion names them."""
        return {
            row
            for deletion in self.requested
            if deletion.answered is not None and deletion.recorded_at is not None
            for row in range(len(SUBJECTS))
            if deletion.names(row) and not self.may_hold(row, deletion)
        }

    def due(self) -> set[int]:
        """Rows that must be stored at rest: an ingest added them, and no deletion that applies to it names them."""
        due: set[int] = set()
        for ingest in self.ingested:
            if not ingest.succeeded:
                continue
            for row in {each.number for each in ingest.rows}:
                naming = [deletion for deletion in self.requested if deletion.names(row) and not deletion.undecided]
                after = [
                    deletion
                    for deletion in naming
                    if deletion.recorded_at is None or deletion.recorded_at > ingest.requested_at
                ]
                if not (after if ingest.force else naming):
                    due.add(row)
        return due


def rows_in(tables: Collection[Any]) -> set[Row]:
    """The rows in these tables."""
    by_image = {row.image: row for row in ALL}
    return {by_image[image] for table in tables for image in table.images}
