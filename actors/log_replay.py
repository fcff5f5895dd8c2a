"""What has happened according to the log: deletions by id, the newest commit, what was erased."""

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
class ErasureCommit:
    """The commit that erased a deletion's rows.

    Attributes:
        before, after: record numbers of the previous commit and of this one.
        erasure: the deletion's entry in it.
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
        committed: by the id of a deletion, the commit that erased its rows.
        erased: keyed hashes of all samples and subjects that deletions named or covered, including those that the
            system did not hold, with the number of the last record that did so.
        origin: record number of the commit that the next one follows; 0 before the first.
        waiting: by the id of a deletion whose rows are erased and that is neither completed nor failed, the keys of the
            clusters that were touched, or of those that they were regrouped into since.
        receipts: the newest receipt of each erased deletion, by its id.
        receipt_names: every receipt that a record names.
        attempts: failed tunings by the digest of the coreset, for clusters of the newest commit that are not tuned.
    """

    term: int = 0
    commit: Commit | None = None
    deletions: dict[str, Deletion] = field(default_factory=dict)
    bodies: dict[str, RequestBody] = field(default_factory=dict)
    by_idempotency: dict[str, str] = field(default_factory=dict)
    committed: dict[str, ErasureCommit] = field(default_factory=dict)
    erased: dict[str, int] = field(default_factory=dict)
    origin: int = 0
    waiting: dict[str, set[str]] = field(default_factory=dict)
    receipts: dict[str, str] = field(default_factory=dict)
    receipt_names: set[str] = field(default_factory=set)
    attempts: dict[str, Attempts] = field(default_factory=dict)
    _restored: bool = False

    def replay(self, records: Iterable[Record]) -> None:
        """Replay records in the order of the log."""
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
        """Keyed hashes of all samples and subjects that a deletion named, and of the rows covered at its acceptance."""
        return self.bodies[deletion_id].hashes()

    def deadlines(self) -> dict[str, str]:
        """By cluster key, the earliest deadline of the deletions that wait for it, if there is one."""
        deadlines: dict[str, str] = {}
        for deletion_id, keys in self.waiting.items():
            deadline = self.deletion(deletion_id).deadline
            if deadline is not None:
                deadlines |= {key: min(deadline, deadlines.get(key, deadline)) for key in keys}
        return deadlines

    def _term(self, record: Record) -> None:
        self.term = max(self.term, record.term)
        # A restore goes on from an earlier commit: what later commits erased no longer counts as erased (decision 28).
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
            self.committed[erasure.id] = ErasureCommit(made_from, record.number, erasure)
            self.erased.update(dict.fromkeys((*erasure.samples, *erasure.subjects), record.number))
        self.origin = record.number

    def _follow(self, before: Commit | None, after: Commit) -> None:
        """Have deletions that wait for a regrouped cluster wait for those that it was regrouped into."""
        keys_before = {entry.rows_leaf: entry.key for entry in before.clusters} if before is not None else {}
        written = {entry.key for entry in after.clusters if entry.rows_leaf not in keys_before}
        replaced = set(keys_before.values()) - {entry.key for entry in after.clusters if entry.rows_leaf in keys_before}
        for keys in self.waiting.values():
            if self._restored:
                # The commits that it followed so far no longer count.
                keys |= _untuned(after)
            elif not keys.isdisjoint(replaced):
                keys |= written
        self._restored = False
        self.waiting |= {name: set(written) for name in after.requests}
        untuned = {entry.coreset_leaf for entry in after.clusters if entry.prompted_leaf is None}
        for leaf in self.attempts.keys() - untuned:
            del self.attempts[leaf]

    def _attempt(self, record: Record) -> None:
        body = AttemptBody.from_record(record)
        before = self.attempts.get(body.coreset)
        self.attempts[body.coreset] = Attempts((before.count if before is not None else 0) + 1, body.reason)

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
    return {entry.key for entry in commit.clusters if entry.prompted_leaf is None}
