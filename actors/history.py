"""What the log says has happened: deletions by id, the newest commit, what was erased."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lmeraser.commit import Commit, Erasure
from lmeraser.deletion import Deletion
from lmeraser.errors import UnknownDeletionError
from lmeraser.log import Record


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


@dataclass
class History:
    """Built by replaying the log, record by record.

    Attributes:
        term: the highest term seen.
        commit: the newest commit.
        deletions: by id, in the order in which they were accepted.
        bodies: the bodies of the request records by id.
        by_idempotency: keyed hash of an idempotency key to the id of its deletion.
        committed: deletions whose rows a commit leaves out, by id.
        erased: keyed hashes of all samples and subjects that deletions named or covered, those that the system did not
            hold among them, with the number of the last record that did so.
        origin: record number of the commit that the next one is made from; 0 before the first.
    """

    term: int = 0
    commit: Commit | None = None
    deletions: dict[str, Deletion] = field(default_factory=dict)
    bodies: dict[str, dict[str, Any]] = field(default_factory=dict)
    by_idempotency: dict[str, str] = field(default_factory=dict)
    committed: dict[str, Committed] = field(default_factory=dict)
    erased: dict[str, int] = field(default_factory=dict)
    origin: int = 0

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
        body = self.bodies[deletion_id]
        return (*body["samples"], *body["subjects"], *body["unknown_samples"], *body["unknown_subjects"])

    def deadlines(self, waiting: Mapping[str, Collection[str]]) -> dict[str, str]:
        """The earliest deadline of the deletions that wait for a cluster, by its key, where there is one.

        Args:
            waiting: keys of clusters by the id of the deletion that waits for them.
        """
        found: dict[str, str] = {}
        for deletion_id, keys in waiting.items():
            deadline = self.deletion(deletion_id).deadline
            if deadline is not None:
                found |= {key: min(deadline, found.get(key, deadline)) for key in keys}
        return found

    def _term(self, record: Record) -> None:
        self.term = max(self.term, record.term)
        # A restore goes on from an earlier commit: what later ones erased counts as erased by no commit.
        if (base := record.body.get("base")) is not None:
            self.origin = base
            self.committed = {name: each for name, each in self.committed.items() if each.after <= base}

    def _request(self, record: Record) -> None:
        body = record.body
        self.bodies[body["id"]] = body
        unknown = len(body["unknown_samples"]) + len(body["unknown_subjects"])
        self.deletions[body["id"]] = Deletion(
            body["id"], "accepted", len(body["samples"]), record.at, unknown, deadline=body["deadline"]
        )
        self.erased.update(dict.fromkeys(self.named(body["id"]), record.number))
        if body["idempotency"] is not None:
            self.by_idempotency[body["idempotency"]] = body["id"]

    def _commit(self, record: Record) -> None:
        self.commit = Commit.from_record(record)
        before = self.origin or record.number
        for erasure in self.commit.erasures:
            self.committed[erasure.id] = Committed(before, record.number, erasure)
            self.erased.update(dict.fromkeys((*erasure.samples, *erasure.subjects), record.number))
        self.origin = record.number

    def _erased(self, record: Record) -> None:
        body = record.body
        self._change(
            record,
            status="erased",
            erased_at=record.at,
            clusters=tuple(body["clusters"]),
            rows=body["rows"],
            unknown=body["unknown"],
        )

    def _completed(self, record: Record) -> None:
        self._change(record, status="completed", completed_at=record.at)

    def _failed(self, record: Record) -> None:
        self._change(record, status="failed", reason=record.body["reason"])

    def _retry(self, record: Record) -> None:
        self._change(record, status="erased", reason=None)

    def _change(self, record: Record, **changes: Any) -> None:
        deletion_id = record.body["id"]
        self.deletions[deletion_id] = replace(self.deletions[deletion_id], **changes)
