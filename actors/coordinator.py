"""The coordinator: accepts requests, orders them, plans and commits.

A plain class that does one piece of work at each :meth:`Coordinator.step`; ``actors.remote`` makes it a Ray actor.
Requests may come from other threads at any time.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actors.backlog import Backlog
from actors.committer import ApplyResult, Committer
from actors.fail_points import FailPoint, fail_point
from actors.ingests import IngestOutcome, PendingIngest, read_incoming
from actors.journal import Journal
from actors.owners import Owners
from actors.prefixes import Prefixes
from actors.receipt_writer import ReceiptWriter
from actors.requests import Intake
from actors.sweep import sweep
from actors.tunings import Tunings
from lmeraser.deletion import Deletion, DeletionRequest
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
from lmeraser.state.log import Log
from lmeraser.state.manifest import Manifest
from lmeraser.state.record_bodies import FailedBody
from lmeraser.store import Store

_NOTHING = ApplyResult((), frozenset())


class Coordinator:
    """The one that commits. Requests are durable before they are acknowledged."""

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
        """Take over the store: open a term, and go on where the last one stopped, or from ``base`` where given."""
        self._store = store
        self._manifest = manifest
        self._hash_key = hash_key
        self._owners = owners
        self._lease_s = lease_s
        self._journal = Journal(Log(store), base)
        self._journal.open_term()
        self._committer = Committer(store, manifest, hash_key, self._journal, owners)
        self._committer.load()
        self._intake = Intake(store, hash_key, self._journal)
        self._intake.adopt(self._committer.index)
        self._retries: deque[str] = deque()
        self._receipting = ReceiptWriter(store, manifest, hash_key, signing_key, self._journal)
        self._receipting.tidy()
        self._tunings = Tunings(manifest.config, self._journal, self._committer, owners)
        self._requests = Backlog()
        for deletion in self._journal.history.deletions.values():
            if deletion.status == "accepted":
                self._requests.add(deletion.id)
        self._ingests: deque[PendingIngest] = deque()
        self.prefixes = Prefixes(store)
        self._owed: frozenset[str] = frozenset()
        commit = self._committer.commit
        owners.prepare({entry.key: entry.rows for entry in commit.clusters} if commit is not None else {})
        self._sweep()

    def delete(self, request: DeletionRequest) -> Deletion:
        """Accept a deletion. When this returns, the request survives any crash.

        Raises:
            NotReadyError: when the store holds no rows and never has.
            RequestError: when no id is given, or too many are, or one is empty, longer than 1024 characters or no text,
                or the idempotency key is no text, or the deadline no such time.
            RateLimitError: when too many ids came that the system does not hold.
            IdempotencyConflictError: when the key came before with another body.
            StoreError: when the request cannot be written; it is not accepted then.
        """
        if self._committer.commit is None:
            raise NotReadyError("the store holds no rows: ingest some first")
        deletion, new = self._intake.accept(self._committer.index, request)
        if new:
            self._requests.add(deletion.id)
        return deletion

    def deletion(self, deletion_id: str) -> Deletion:
        """One deletion. Raises UnknownDeletionError."""
        deletion = self._journal.history.deletion(deletion_id)
        return replace(deletion, reason=self._requests.held_up().get(deletion_id, deletion.reason))

    def retry(self, deletion_id: str) -> Deletion:
        """Have a failed deletion's clusters tuned again. Raises UnknownDeletionError; RequestError if not failed."""
        deletion = self._journal.history.deletion(deletion_id)
        if deletion.status != "failed":
            raise RequestError(f"deletion {deletion_id} is {deletion.status}; only one that failed is tried again")
        self._retries.append(deletion_id)
        return deletion

    def deletions(self) -> list[Deletion]:
        """All deletions, oldest first."""
        held_up, deletions = self._requests.held_up(), list(self._journal.history.deletions.values())
        return [replace(one, reason=held_up[one.id]) if one.id in held_up else one for one in deletions]

    def receipt(self, deletion_id: str) -> dict[str, Any]:
        """A deletion's receipt.

        Raises:
            UnknownDeletionError: when there is no such deletion.
            NotReadyError: when its rows are not erased yet.
        """
        deletion = self._journal.history.deletion(deletion_id)
        if deletion.status == "accepted":
            raise NotReadyError(f"deletion {deletion_id} has no receipt before it is erased")
        return self._receipting.read(deletion_id)

    def begin_ingest(self) -> str:
        """A prefix under which to put row objects; renew it in ``prefixes``, and pass it to :meth:`ingest`."""
        return self.prefixes.begin(self._journal.position.number)

    def ingest(self, prefix: str, force: bool = False) -> Future[IngestOutcome]:
        """Add the rows under a prefix that are new; the future says what became of them once they are committed.

        Rows that are there already, the same in every byte, are passed over. Rows that were named in a deletion, or
        whose subject was, are left out; with ``force`` those alone that were named after the ingest began. The future
        raises DuplicateSampleError when a sample id comes twice or is there with other content, and RequestError when
        the ingest holds a row that is being erased and must start again; nothing is added then.

        Raises:
            RequestError: when the ingest can no longer be finished, and must start again.
        """
        ingest = PendingIngest(prefix, self.prefixes.hand_over(prefix), force)
        self._ingests.append(ingest)
        return ingest.outcome

    def status(self) -> dict[str, Any]:
        """What the system holds and what it waits for."""
        commit = self._committer.commit
        return {
            "term": self._journal.term,
            "commit": commit.number if commit is not None else None,
            "state_root": commit.root if commit is not None else None,
            "rows": commit.rows if commit is not None else 0,
            "clusters": len(commit.clusters) if commit is not None else 0,
            "awaiting": self._tunings.awaiting,
            "running": self._tunings.running,
            "held_up": self._requests.held_up(),
            "failed": self._tunings.given_up,
            "tunings": self._tunings.made,
        }

    def step(self) -> bool:
        """Do one piece of work; False when there was none to do.

        Raises:
            FencedError: when a newer coordinator has taken over; this one must not go on.
        """
        try:
            # A refused request may have told it so, and it has nothing to add of its own that would tell it again.
            self._journal.heed()
            return self._step()
        except LMEraserError:
            # An object that is gone may have been swept by a successor, and then this coordinator must not start again.
            with suppress(StoreError):
                self._journal.check()
            raise

    def _step(self) -> bool:
        if due := self._requests.due():
            self._erase(due)
        elif self._ingests:
            self._add(self._ingests[0])
        elif self._retries:
            self._try_again(self._retries[0])
            self._retries.popleft()
        elif self.prefixes.drop_silent() or self._unswept or self.prefixes.strays():
            self._sweep()
        elif not (self._take_results() or self._tunings.start() or self._complete()):
            self._owners.start_ahead()
            return False
        return True

    def idle(self) -> bool:
        """Whether nothing is asked for, running or awaited."""
        working = self._requests or self._ingests or self._retries or self._tunings.running or self._unswept
        return not (working or self._journal.history.waiting or self._tunings.awaiting)

    def _erase(self, ids: Sequence[str]) -> None:
        """Erase the rows of these requests, in one commit."""
        fresh = [request_id for request_id in ids if request_id not in self._journal.history.committed]
        requests = [self._intake.resolve(request_id, self._committer.index) for request_id in fresh]
        for hashes in map(self._journal.history.named, ids):
            self.prefixes.forbid(hashes, self._journal.position.number)
        try:
            applied = self._committer.apply(requests) if fresh else _NOTHING
        except LMEraserError as error:
            if not self._requests.put_off(ids, error):
                raise
            self._unswept = True
            return
        self._tunings.forget(applied.left_keys)
        # Until the lease of every replica has run out, one may still answer from the commit before.
        time.sleep(self._lease_s)
        fail_point(FailPoint.LEASE_WAITED)
        self._retire(applied)
        fail_point(FailPoint.OWNERS_RETIRED)
        self._sweep()
        fail_point(FailPoint.SWEPT)
        for request_id in ids:
            # A step that failed after this record is done again, and must not write it twice.
            if self._journal.history.deletion(request_id).status == "accepted":
                self._receipting.erased(request_id)
            self._intake.forget(request_id)
            fail_point(FailPoint.REQUEST_PURGED)
            self._requests.done(request_id)

    def _add(self, ingest: PendingIngest) -> None:
        history, index = self._journal.history, self._committer.index
        try:
            self.prefixes.check(ingest.prefix)
            arrived = read_incoming(self._store, ingest, history, self._hash_key, self._manifest.config, index)
        except (DataError, ObjectCorruptError, ObjectMissingError, RequestError) as error:
            return self._ended(ingest, error)
        # What another coordinator has swept away was not there to be read, and must not count as nothing to add.
        self._journal.check()
        outcome = IngestOutcome(len(arrived.index), arrived.present, arrived.erased)
        try:
            applied = self._committer.apply(arrived=arrived) if outcome.added else _NOTHING
        except OwnerFailedError as error:
            return self._ended(ingest, error)
        return self._ended(ingest, outcome, applied)

    def _ended(
        self, ingest: PendingIngest, outcome: IngestOutcome | Exception, applied: ApplyResult = _NOTHING
    ) -> None:
        """Sweep what lies under the prefix, and tell what became of the rows or why none was added."""
        # A later step that fails is done again, and must not add the rows a second time.
        self._ingests.popleft()
        self.prefixes.added(ingest.prefix)
        self._unswept = True
        try:
            self._tunings.forget(applied.left_keys)
            self._retire(applied)
            self._sweep()
        finally:
            ingest.tell(outcome)

    def _retire(self, applied: ApplyResult) -> None:
        """End the owners of clusters that are no more; what fails is owed by the next step that erases or adds."""
        self._owed |= applied.left_keys - applied.touched
        self._owners.retire(self._owed)
        self._owed = frozenset()

    def _take_results(self) -> bool:
        results = self._tunings.finished()
        if results:
            self._unswept = True
            self._tunings.take(results)
        return bool(results)

    def _complete(self) -> bool:
        history, awaiting, given_up = self._journal.history, set(self._tunings.awaiting), self._tunings.given_up
        done = {
            request_id: keys
            for request_id, keys in history.waiting.items()
            if keys.isdisjoint(awaiting) and history.deletion(request_id).status == "erased"
        }
        for request_id, keys in done.items():
            if failed := min(keys & set(given_up), default=None):
                reason = f"cluster {failed} could not be tuned: {given_up[failed]}"
                self._journal.append("failed", FailedBody(request_id, reason).to_body())
            else:
                self._receipting.completed(request_id)
        return bool(done)

    def _try_again(self, deletion_id: str) -> None:
        if self._journal.history.deletion(deletion_id).status == "failed":
            self._tunings.retry(deletion_id)

    def _sweep(self) -> None:
        self.prefixes.drop_forbidden()
        targets = self._tunings.targets

        def writing(name: str) -> bool:
            return name in targets or self.prefixes.keeps(name)

        sweep(self._store, self._committer.commit, writing, self._journal.check)
        self._unswept = False
