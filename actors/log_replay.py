"""What the log says has happened: deletions by id, the newest commit, what was erased."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from lmeraser.deletion import Deletion
from lmeraser.errors import UnknownDeletionError
from lmeraser.state.commit import Commit, Erasure
from lmeraser.state.log import Record
from lmeraser.state.record_bodies import (
    AttemptBody,
    CompletedBody,
    ErasedBody,
    FailedBody,
    RequestBody,
    RetryBody,
    TermBody,
)


@dataclass(frozen=True)
class Committed:
    """The commit that leaves a deletion's rows out.

    Attributes:
        before, after: record numbers of the commit before it, and its own.
        erasure: what the deletion came to in it.
    """

    before: int
    after: int
    erasure: Erasure


@dataclass(frozen=True)
class Attempts:
    """How many tunings of a cluster's rows have failed, and why the last one did."""

    count: int
    reason: str


@dataclass
class History:
    """Built by replaying the log, record by record.

    Attributes:
        term: the highest term seen.
        commit: the newest commit.
        deletions: by id, in the order in which they were accepted.
        bodies: what the request records say, by id.
        by_idempotency: keyed hash of an idempotency key to the id of its deletion.
        committed: deletions whose rows a commit leaves out, by id.
        erased: keyed hashes of all samples and subjects that deletions named or covered, those that the system did not
            hold among them, with the number of the last record that did so.
        origin: record number of the commit that the next one is made from; 0 before the first.
        waiting: by the id of a deletion whose rows a commit leaves out, and that is neither completed nor failed:
            keys of the clusters that were touched, or of what they became since.
        receipts: the newest receipt of each deletion that is erased, by its id.
        receipt_names: all receipts that a record names.
        attempts: failed tunings by the digest of the rows, for clusters of the newest commit that have no specialist.
    """

    term: int = 0
    commit: Commit | None = None
    deletions: dict[str, Deletion] = field(default_factory=dict)
    bodies: dict[str, RequestBody] = field(default_factory=dict)
    by_idempotency: dict[str, str] = field(default_factory=dict)
    committed: dict[str, Committed] = field(default_factory=dict)
    erased: dict[str, int] = field(default_factory=dict)
    origin: int = 0
    waiting: dict[str, set[str]] = field(default_factory=dict)
    receipts: dict[str, str] = field(default_factory=dict)
    receipt_names: set[str] = field(default_factory=set)
    attempts: dict[str, Attempts] = field(default_factory=dict)
    _restored: bool = False

    def replay(self, records: Iterable[Record]) -> None:
        """Take in records in the order of the log."""
        for record in records:
            getattr(self, f"_{record.kind}")(record)

    def deletion(self, deletion_id: str) -> Deletion:
        """One deletion.

        Raises:
            UnknownDeletionError: when there is none with this id.
        """
        if deletion_id not in self.deletions:
            raise UnknownDeletionError(f"no deletion has the id {deletion_id!r}")
        return self.deletions[deletion_id]

    def named(self, deletion_id: str) -> tuple[str, ...]:
        """Keyed hashes of all samples and subjects that a deletion named, and of the rows that it covered at first."""
        return self.bodies[deletion_id].hashes()

    def deadlines(self) -> dict[str, str]:
        """The earliest deadline of the deletions that wait for a cluster, by its key, where there is one."""
        found: dict[str, str] = {}
        for deletion_id, keys in self.waiting.items():
            deadline = self.deletion(deletion_id).deadline
            if deadline is not None:
                found |= {key: min(deadline, found.get(key, deadline)) for key in keys}
        return found

    def _term(self, record: Record) -> None:
        self.term = max(self.term, record.term)
        # A restore goes on from an earlier commit: what later ones erased counts as erased by no commit.
        if (base := TermBody.from_record(record).base) is not None:
            self.origin = base
            self.committed = {name: each for name, each in self.committed.items() if each.after <= base}
            self._restored = True

    def _request(self, record: Record) -> None:
        body = RequestBody.from_record(record)
        self.bodies[body.id] = body
        self.deletions[body.id] = Deletion(
            body.id, "accepted", len(body.samples), record.at, body.unknown, deadline=body.deadline
        )
        self.erased.update(dict.fromkeys(body.hashes(), record.number))
        if body.idempotency is not None:
            self.by_idempotency[body.idempotency] = body.id

    def _commit(self, record: Record) -> None:
        before, self.commit = self.commit, Commit.from_record(record)
        self._follow(before, self.commit)
        made_from = self.origin or record.number
        for erasure in self.commit.erasures:
            self.committed[erasure.id] = Committed(made_from, record.number, erasure)
            self.erased.update(dict.fromkeys((*erasure.samples, *erasure.subjects), record.number))
        self.origin = record.number

    def _follow(self, before: Commit | None, after: Commit) -> None:
        """What waits for a cluster that was regrouped waits for what it became."""
        objects = {entry.rows_object: entry.key for entry in before.clusters} if before is not None else {}
        written = {entry.key for entry in after.clusters if entry.rows_object not in objects}
        left = set(objects.values()) - {entry.key for entry in after.clusters if entry.rows_object in objects}
        for keys in self.waiting.values():
            if self._restored:
                # The commits that it followed so far are no more.
                keys |= _untuned(after)
            elif not keys.isdisjoint(left):
                keys |= written
        self._restored = False
        self.waiting |= {name: set(written) for name in after.requests}
        untuned = {entry.rows_leaf for entry in after.clusters if entry.specialist_object is None}
        for leaf in self.attempts.keys() - untuned:
            del self.attempts[leaf]

    def _attempt(self, record: Record) -> None:
        body = AttemptBody.from_record(record)
        before = self.attempts.get(body.rows)
        self.attempts[body.rows] = Attempts((before.count if before is not None else 0) + 1, body.reason)

    def _erased(self, record: Record) -> None:
        body = ErasedBody.from_record(record)
        self._signed(body)
        self._change(
            body.id,
            status="erased",
            erased_at=record.at,
            clusters=body.clusters,
            rows=body.rows,
            unknown=body.unknown,
        )

    def _completed(self, record: Record) -> None:
        body = CompletedBody.from_record(record)
        self._signed(body)
        self._change(body.id, status="completed", completed_at=record.at)
        self.waiting.pop(body.id, None)

    def _signed(self, body: ErasedBody | CompletedBody) -> None:
        self.receipts[body.id] = body.receipt
        self.receipt_names.add(body.receipt)

    def _failed(self, record: Record) -> None:
        body = FailedBody.from_record(record)
        self._change(body.id, status="failed", reason=body.reason)
        self.waiting.pop(body.id, None)

    def _retry(self, record: Record) -> None:
        body = RetryBody.from_record(record)
        self._change(body.id, status="erased", reason=None)
        self.attempts.clear()
        self.waiting[body.id] = _untuned(self.commit) if self.commit is not None else set()

    def _change(self, deletion_id: str, **changes: Any) -> None:
        self.deletions[deletion_id] = replace(self.deletions[deletion_id], **changes)


def _untuned(commit: Commit) -> set[str]:
    return {entry.key for entry in commit.clusters if entry.specialist_object is None}
