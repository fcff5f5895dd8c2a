"""What has happened according to the log: deletions by id, the newest commit, what was erased."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from lmeraser.deletion import Deletion
from lmeraser.errors import LogError, UnknownDeletionError
from lmeraser.state.commit import Commit, Erasure
from lmeraser.state.log import Record
from lmeraser.state.record_bodies import (
    ApprovedBody,
    AttemptBody,
    CompletedBody,
    DeclinedBody,
    ErasedBody,
    FailedBody,
    PolicyBody,
    RequestBody,
    RetryBody,
    TermBody,
    deletions_of,
    rebuild_after,
)


@dataclass(frozen=True)
class ErasureCommit:
    """The commit that erased a deletion's rows.

    Attributes:
        before, after: the previous commit and this one.
        erasure: the deletion's entry in it.
    """

    before: Commit
    after: Commit
    erasure: Erasure


@dataclass(frozen=True)
class Attempts:
    """How many tunings of a cluster's rows have failed, and why the last one did."""

    count: int
    reason: str


@dataclass
class History:
    """Built by replaying the log, from its start or from a checkpoint.

    What is settled leaves it at a checkpoint (actors.checkpoints): completed deletions, and what they named.

    Attributes:
        term: the highest term seen.
        commit: the newest commit.
        deletions: by id, in the order in which they were accepted.
        bodies: what the request records say, by id.
        by_idempotency: keyed hash of an idempotency key to the id of its deletion.
        committed: by the id of a deletion, the commit that erased its rows, or the last of them.
        partial: by the id of a deletion, the newest commit that erased some of its rows, but not all.
        erased: keyed hashes of all samples and subjects that deletions named or covered, including those that the
            system did not hold, with the number of the last record that did so.
        origin: the commit that the next one is made from; None before the first.
        restored: whether a restore has continued from an earlier commit, and none has been made since.
        waiting: by the id of a deletion whose rows are erased and that is neither completed nor failed, the keys of the
            clusters that were touched, or of those that they were regrouped into since.
        receipts: the receipts of each erased deletion that records name, the newest last, by its id.
        commits: commits from which a restore may continue, by number.
        archived: how many deletions have left it; archive: number of the newest archive of them, 0 if there is none.
        since: how many records of each kind were replayed since the last checkpoint; one that is about several
            deletions counts for each of them.
        active: deletions that these records are about.
        attempts: failed tunings by the digest of the coreset, for clusters of the newest commit that are not tuned.
        rebuild: the generation that is being made; None if none is.
        approval: whether deletions need approval.
    """

    term: int = 0
    commit: Commit | None = None
    deletions: dict[str, Deletion] = field(default_factory=dict)
    bodies: dict[str, RequestBody] = field(default_factory=dict)
    by_idempotency: dict[str, str] = field(default_factory=dict)
    committed: dict[str, ErasureCommit] = field(default_factory=dict)
    partial: dict[str, ErasureCommit] = field(default_factory=dict)
    erased: dict[str, int] = field(default_factory=dict)
    origin: Commit | None = None
    restored: bool = False
    waiting: dict[str, set[str]] = field(default_factory=dict)
    receipts: dict[str, list[str]] = field(default_factory=dict)
    commits: dict[int, Commit] = field(default_factory=dict)
    archived: int = 0
    archive: int = 0
    since: Counter[str] = field(default_factory=Counter)
    active: set[str] = field(default_factory=set)
    attempts: dict[str, Attempts] = field(default_factory=dict)
    rebuild: str | None = None
    approval: bool = False

    def replay(self, records: Iterable[Record]) -> None:
        """Replay records in the order of the log."""
        records = list(records)
        continued = {TermBody.from_record(record).base for record in records if record.kind == "term"}
        for record in records:
            getattr(self, f"_{record.kind}")(record)
            if record.number in continued and self.commit is not None:
                self.commits[record.number] = self.commit
            about = deletions_of(record)
            self.since[record.kind] += max(1, len(about))
            self.active.update(about)

    def deletion(self, deletion_id: str) -> Deletion:
        """One deletion.

        Raises:
            UnknownDeletionError: when there is none with this id.
        """
        if deletion_id not in self.deletions:
            raise UnknownDeletionError(f"no deletion has the id {deletion_id!r}")
        return self.deletions[deletion_id]

    def is_bound(self, deletion_id: str) -> bool:
        """Whether a deletion is for exactly what its preview said."""
        return self.bodies[deletion_id].previewed is not None

    def named(self, deletion_id: str) -> tuple[str, ...]:
        """Keyed hashes of all samples and subjects that a deletion named, and of the rows covered at its acceptance."""
        return self.bodies[deletion_id].hashes()

    def erased_with(self, deletion_ids: Iterable[str]) -> tuple[list[str], list[str]]:
        """Keyed hashes of the samples, and of the subjects, that these erased deletions named or covered."""
        samples: list[str] = []
        subjects: list[str] = []
        for deletion_id in deletion_ids:
            body, erasure = self.bodies[deletion_id], self.committed[deletion_id].erasure
            samples += [*body.samples, *body.unknown_samples, *erasure.samples]
            subjects += [*body.subjects, *body.unknown_subjects, *erasure.subjects]
        return samples, subjects

    def leave_out(self, settled: Collection[str], archive: int) -> None:
        """Forget what a checkpoint has moved to an archive: these completed deletions, and all that was named."""
        for deletion_id in settled:
            del self.deletions[deletion_id]
            del self.receipts[deletion_id]
            idempotency = self.bodies.pop(deletion_id).idempotency
            if idempotency is not None:
                del self.by_idempotency[idempotency]
        self.committed.clear()
        # A restore may continue from the newest commit.
        self.commits = {self.commit.number: self.commit} if self.commit is not None else {}
        self.erased.clear()
        self.since.clear()
        self.active.clear()
        self.archived += len(settled)
        self.archive = archive

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
            if base not in self.commits:
                raise LogError(f"log record {record.number} continues from record {base}, which is not a commit")
            self.origin = self.commits[base]
            for made in (self.committed, self.partial):
                for name in [name for name, each in made.items() if each.after.number > base]:
                    del made[name]
            self.restored = True
            self._rebuild(record)

    def _request(self, record: Record) -> None:
        for body in RequestBody.all_from(record):
            self.bodies[body.id] = body
            self.deletions[body.id] = Deletion(
                body.id,
                "requested" if body.awaits_approval else "accepted",
                len(body.samples),
                record.at,
                body.unknown,
                deadline=body.deadline,
                requested_by=body.by,
            )
            if not body.awaits_approval:
                self.erased.update(dict.fromkeys(body.hashes(), record.number))
            if body.idempotency is not None:
                self.by_idempotency[body.idempotency] = body.id

    def _approved(self, record: Record) -> None:
        for body in ApprovedBody.all_from(record):
            self._change(body.id, status="accepted", accepted_at=record.at, decided_by=body.by)
            if body.previewed is not None:
                self.bodies[body.id] = replace(self.bodies[body.id], previewed=body.previewed)
            self.erased.update(dict.fromkeys(self.bodies[body.id].hashes(), record.number))

    def _declined(self, record: Record) -> None:
        for body in DeclinedBody.all_from(record):
            self._change(body.id, status="declined", reason=body.reason, decided_by=body.by)

    def _policy(self, record: Record) -> None:
        self.approval = PolicyBody.from_record(record).approval

    def _commit(self, record: Record) -> None:
        before, self.commit = self.commit, Commit.from_record(record, self.commit)
        self._follow(before, self.commit)
        self._rebuild(record)
        for erasure in self.commit.erasures:
            first = self.partial.pop(erasure.id, None)
            before = first.before if first is not None else self.origin or self.commit
            together = first.erasure.followed_by(erasure) if first is not None else erasure
            made = self.partial if erasure.remaining else self.committed
            made[erasure.id] = ErasureCommit(before, self.commit, together)
            if not erasure.remaining and (root := self.bodies[erasure.id].previewed) is not None:
                self._change(erasure.id, as_previewed=root == self.commit.root)
            self.erased.update(dict.fromkeys((*erasure.samples, *erasure.subjects), record.number))
        self.origin = self.commit

    def _follow(self, before: Commit | None, after: Commit) -> None:
        """Have deletions that wait for a regrouped cluster wait for those that it was regrouped into."""
        keys_before = {entry.rows_leaf: entry.key for entry in before.clusters} if before is not None else {}
        written = {entry.key for entry in after.clusters if entry.rows_leaf not in keys_before}
        replaced = set(keys_before.values()) - {entry.key for entry in after.clusters if entry.rows_leaf in keys_before}
        for keys in self.waiting.values():
            if self.restored:
                # The commits that it followed so far no longer count.
                keys |= _untuned(after)
            elif not keys.isdisjoint(replaced):
                keys |= written
        self.restored = False
        for name in after.requests:
            self.waiting.setdefault(name, set()).update(written)
        untuned = {entry.coreset_leaf for entry in after.unembedded}
        for leaf in self.attempts.keys() - untuned:
            del self.attempts[leaf]

    def _attempt(self, record: Record) -> None:
        body = AttemptBody.from_record(record)
        before = self.attempts.get(body.coreset)
        self.attempts[body.coreset] = Attempts((before.count if before is not None else 0) + 1, body.reason)

    def _erased(self, record: Record) -> None:
        for body in ErasedBody.all_from(record):
            self._signed(body)
            self._change(
                body.id,
                status="erased",
                erased_at=body.at,
                clusters=body.clusters,
                rows=body.rows,
                unknown=body.unknown,
            )

    def _completed(self, record: Record) -> None:
        for body in CompletedBody.all_from(record):
            self._signed(body)
            self._change(body.id, status="completed", completed_at=body.at)
            self.waiting.pop(body.id, None)

    def _signed(self, body: ErasedBody | CompletedBody) -> None:
        self.receipts.setdefault(body.id, []).append(body.receipt)

    def _failed(self, record: Record) -> None:
        for body in FailedBody.all_from(record):
            self._change(body.id, status="failed", reason=body.reason)
            self.waiting.pop(body.id, None)

    def _retry(self, record: Record) -> None:
        for body in RetryBody.all_from(record):
            self._change(body.id, status="erased", reason=None)
            self.attempts.clear()
            self.waiting[body.id] = _untuned(self.commit) if self.commit is not None else set()

    def _rebuild(self, record: Record) -> None:
        self.rebuild = rebuild_after(record, self.rebuild)

    def _change(self, deletion_id: str, **changes: Any) -> None:
        self.deletions[deletion_id] = replace(self.deletions[deletion_id], **changes)


def _untuned(commit: Commit) -> set[str]:
    return {entry.key for entry in commit.unembedded}
