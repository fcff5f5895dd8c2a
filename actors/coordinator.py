"""The coordinator: accepts requests, orders them, plans and commits.

A plain class that does one piece of work per :meth:`Coordinator.step`; ``actors.remote`` makes it a Ray actor
(decision 1). Requests may come from other threads at any time.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actors.backlog import Backlog
from actors.checkpoints import checkpoint_now, is_due
from actors.committer import ApplyResult, Change, Committer
from actors.completions import Completions
from actors.coordinator_status import CoordinatorStatus
from actors.deletions import DeletionPage, Deletions
from actors.fail_points import FailPoint, fail_point
from actors.ingests import IngestOutcome, PendingIngest, read_incoming
from actors.journal import Journal
from actors.owners import Owners
from actors.prefixes import Prefixes
from actors.receipt_writer import ReceiptWriter
from actors.requests import Requests
from actors.sweep import sweep
from actors.tunings import Tunings
from lmeraser.deletion import Deletion, DeletionRequest, Status
from lmeraser.errors import (
    DataError,
    LMEraserError,
    NotReadyError,
    ObjectCorruptError,
    ObjectMissingError,
    OwnerFailedError,
    RequestError,
    StoreError,
)
from lmeraser.hashing import HashKey
from lmeraser.state.commit import Commit
from lmeraser.state.manifest import Manifest
from lmeraser.store import Store

_NOTHING = ApplyResult()


class Coordinator:
    """The only writer of commits. Requests are durable before they are acknowledged.

    Attributes:
        prefixes: those of the ingests that are being written.
    """

    def __init__(
        self,
        store: Store,
        manifest: Manifest,
        hash_key: HashKey,
        signing_key: Ed25519PrivateKey,
        owners: Owners,
        lease_s: float,
        base: Commit | None = None,
    ) -> None:
        """Take over the store: open a term, and go on from the newest commit, or from ``base`` if given."""
        self._store = store
        self._manifest = manifest
        self._hash_key = hash_key
        self._signing_key = signing_key
        self._owners = owners
        self._lease_s = lease_s
        self._journal = Journal(store, base)
        self._journal.open_term()
        self._committer = Committer(store, manifest, hash_key, self._journal, owners)
        self._committer.load()
        self._requests = Requests(store, hash_key, self._journal)
        self._requests.adopt(self._committer.index)
        self._receipts = ReceiptWriter(store, manifest, hash_key, signing_key, self._journal)
        self._receipts.tidy()
        self._tunings = Tunings(manifest.config, self._journal, self._committer, owners)
        self._completions = Completions(self._journal, self._receipts, self._tunings)
        self._backlog = Backlog()
        for deletion in self._journal.history.deletions.values():
            if deletion.status == "accepted":
                self._backlog.add(deletion.id)
        self._ingests: deque[PendingIngest] = deque()
        self._deletions = Deletions(store, self._journal, self._backlog, self._completions, self._receipts)
        self.prefixes = Prefixes(store)
        self._to_retire: frozenset[str] = frozenset()
        self._unswept = True
        commit = self._committer.commit
        owners.prepare({entry.key: entry.rows for entry in commit.clusters} if commit is not None else {})
        self._sweep()

    def delete(self, request: DeletionRequest) -> Deletion:
        """Accept a deletion. When this returns, the request survives any crash.

        Raises:
            NotReadyError: when the store has never held any rows.
            RequestError, RateLimitError, IdempotencyConflictError, StoreError: see :meth:`Requests.accept`.
        """
        if self._committer.commit is None:
            raise NotReadyError("the store holds no rows: ingest some first")
        deletion, new = self._requests.accept(self._committer.index, request)
        if new:
            self._backlog.add(deletion.id)
        return deletion

    def retry(self, deletion_id: str) -> Deletion:
        """Tune a failed deletion's clusters again. Raises UnknownDeletionError; RequestError if it has not failed."""
        self._completions.request_retry(deletion_id)
        return self.deletion(deletion_id)

    def deletion(self, deletion_id: str) -> Deletion:
        """See Deletions.deletion."""
        return self._deletions.deletion(deletion_id)

    def deletions(self, limit: int, cursor: str | None = None, status: Status | None = None) -> DeletionPage:
        """See Deletions.page."""
        return self._deletions.page(limit, cursor, status)

    def recent_deletions(self) -> list[Deletion]:
        """See Deletions.recent."""
        return self._deletions.recent()

    def receipt(self, deletion_id: str) -> dict[str, Any]:
        """See Deletions.receipt."""
        return self._deletions.receipt(deletion_id)

    def begin_ingest(self) -> str:
        """A prefix for row objects; renew it in ``prefixes`` while writing, and then pass it to :meth:`ingest`."""
        return self.prefixes.begin(self._journal.position.number)

    def ingest(self, prefix: str, force: bool = False) -> Future[IngestOutcome]:
        """Add the new rows below a prefix; the future gives the outcome once they are committed.

        Rows that the store already holds, equal in every byte, are skipped. Rows that were named in a deletion, or
        whose subject was, are left out; with ``force`` only those that were named after the ingest began. The future
        raises DuplicateSampleError when a sample id is repeated or is in the store with other content, and RequestError
        when a row of the ingest is being erased, so that the ingest must start again; nothing is added then.

        Raises:
            RequestError: when the prefix was dropped, so that the ingest must start again.
        """
        ingest = PendingIngest(prefix, self.prefixes.hand_over(prefix), force)
        self._ingests.append(ingest)
        return ingest.outcome

    def status(self) -> CoordinatorStatus:
        """What the system holds, and its pending work."""
        commit = self._committer.commit
        return CoordinatorStatus(
            term=self._journal.term,
            commit=commit.number if commit is not None else None,
            state_root=commit.root if commit is not None else None,
            rows=commit.rows if commit is not None else 0,
            clusters=len(commit.clusters) if commit is not None else 0,
            awaiting=tuple(self._tunings.awaiting),
            running=tuple(self._tunings.running),
            held_up=self._backlog.held_up(),
            failed=self._tunings.given_up,
            tunings=self._tunings.made,
            idle=self.idle(),
            archived=self._journal.history.archived,
        )

    def step(self) -> bool:
        """Do one piece of work; False if there was none to do.

        Raises:
            FencedError: when a newer coordinator has taken over; this one must stop.
        """
        try:
            # A refused request may have been the only sign of a successor, which a step without an append would miss.
            self._journal.heed()
            return self._step()
        except LMEraserError:
            # A missing object may have been swept by a successor; then this coordinator must stop and not restart.
            with suppress(StoreError):
                self._journal.check()
            raise

    def _step(self) -> bool:
        if is_due(self._journal.history):
            self._write_checkpoint()
        elif due := self._backlog.due():
            self._erase(due)
        elif self._ingests:
            self._add(self._ingests[0])
        elif self._completions.retries:
            self._completions.retry_next()
        elif self.prefixes.drop_expired() or self._unswept or self.prefixes.needs_sweep():
            self._sweep()
        elif not (self._take_results() or self._tunings.start() or self._completions.complete()):
            self._owners.start_ahead()
            return False
        return True

    def find_rows(self, hashes: Collection[str]) -> list[str]:
        """Ids of the stored samples whose keyed hash, or whose subject's keyed hash, is among these."""
        return self._committer.index.named_by(hashes, self._hash_key)

    def commit_again(self) -> None:
        """Commit the state as it is."""
        self._committer.apply(Change())

    def check_term(self) -> None:
        """Raise FencedError once another coordinator has written to the log."""
        self._journal.check()

    def idle(self) -> bool:
        """Whether nothing is requested, running or awaited."""
        working = self._backlog or self._ingests or self._completions.retries or self._tunings.running or self._unswept
        return not (working or self._journal.history.waiting or self._tunings.awaiting)

    def _erase(self, ids: Sequence[str]) -> None:
        """Erase the rows of these requests, in one commit.

        Each step is idempotent. If one fails, the same requests are due again and all steps are repeated: there is one
        commit, the next step ends the remaining owners, and a receipt with a record is not written twice.
        """
        applied = self._commit_erasure(ids)
        if applied is None:
            return
        self._wait_out_lease()
        self._retire(applied)
        fail_point(FailPoint.OWNERS_RETIRED)
        self._sweep()
        fail_point(FailPoint.SWEPT)
        for request_id in ids:
            self._sign_and_purge(request_id)

    def _commit_erasure(self, ids: Sequence[str]) -> ApplyResult | None:
        """Commit the state without these rows; None if that is put off (decision 40)."""
        uncommitted = [request_id for request_id in ids if request_id not in self._journal.history.committed]
        # Rows are resolved only now, so that those which an ingest has added in between are among them (decision 42).
        requests = tuple(self._requests.resolve(request_id, self._committer.index) for request_id in uncommitted)
        for hashes in map(self._journal.history.named, ids):
            self.prefixes.forbid(hashes, self._journal.position.number)
        try:
            applied = self._committer.apply(Change(requests)) if uncommitted else _NOTHING
        except LMEraserError as error:
            if not self._backlog.put_off(ids, error):
                raise
            self._unswept = True
            return None
        self._tunings.forget(applied.stopped)
        return applied

    def _wait_out_lease(self) -> None:
        """Until the lease of every replica has expired, one may still answer from the previous commit (decision 38)."""
        time.sleep(self._lease_s)
        fail_point(FailPoint.LEASE_WAITED)

    def _sign_and_purge(self, request_id: str) -> None:
        """Sign the receipt, and purge the ids in clear."""
        # If the step failed after this record, it is taken again and must not write the record twice.
        if self._journal.history.deletion(request_id).status == "accepted":
            self._receipts.erased(request_id, completed=self._completions.is_tuned(request_id))
        self._requests.forget(request_id)
        fail_point(FailPoint.REQUEST_PURGED)
        self._backlog.done(request_id)

    def _add(self, ingest: PendingIngest) -> None:
        """Add the new rows of an ingest, in one commit."""
        history, index = self._journal.history, self._committer.index
        try:
            self.prefixes.check(ingest.prefix)
            added = read_incoming(self._store, ingest, history, self._hash_key, self._manifest.config, index)
        except (DataError, ObjectCorruptError, ObjectMissingError, RequestError) as error:
            return self._finish_ingest(ingest, error)
        # If another coordinator has swept the rows away, they were missing here: that is not an ingest without rows.
        self._journal.check()
        outcome = IngestOutcome(len(added.index), added.present, added.erased)
        try:
            applied = self._committer.apply(Change(added=added)) if outcome.added else _NOTHING
        except OwnerFailedError as error:
            return self._finish_ingest(ingest, error)
        return self._finish_ingest(ingest, outcome, applied)

    def _finish_ingest(
        self, ingest: PendingIngest, outcome: IngestOutcome | Exception, applied: ApplyResult = _NOTHING
    ) -> None:
        """Sweep the objects below the prefix, and report the outcome."""
        # If a later step fails, it is taken again and must not add the rows a second time.
        self._ingests.popleft()
        self.prefixes.added(ingest.prefix)
        self._unswept = True
        try:
            self._tunings.forget(applied.stopped)
            self._retire(applied)
            self._sweep()
        finally:
            ingest.resolve(outcome)

    def _write_checkpoint(self) -> None:
        with (journal := self._journal).quiet():
            checkpoint_now(self._store, journal.history, journal.head, self._signing_key, journal.check)

    def _retire(self, applied: ApplyResult) -> None:
        """End the owners of removed clusters; if that fails, the next step that erases or adds ends them."""
        self._to_retire |= applied.ended
        self._owners.retire(self._to_retire)
        self._to_retire = frozenset()

    def _take_results(self) -> bool:
        if results := self._tunings.finished():
            self._unswept = True
            self._tunings.take(results)
        return bool(results)

    def _sweep(self) -> None:
        self.prefixes.drop_forbidden()
        targets, keeps = self._tunings.targets, self.prefixes.keeps
        sweep(self._store, self._committer.commit, lambda name: name in targets or keeps(name), self._journal.check)
        self._unswept = False
