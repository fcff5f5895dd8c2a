"""The coordinator: accepts requests, orders them, plans and commits.

A plain class that does one piece of work per :meth:`Coordinator.step`; ``actors.remote`` makes it a Ray actor
(decision 1). Requests may come from other threads at any time.
"""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import Executor, Future
from contextlib import suppress
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actors.acceptance import Acceptance
from actors.additions import Additions
from actors.approvals import Approvals
from actors.backlog import Backlog
from actors.checkpoints import checkpoint_now, is_due
from actors.committer import Committer
from actors.completions import Completions
from actors.coordinator_status import CoordinatorStatus, status_of
from actors.deletions import DeletionPage, Deletions
from actors.eraser import Eraser
from actors.ingests import IngestOutcome
from actors.journal import Journal, OnAppend
from actors.loading import mark_damage
from actors.owners import Owners
from actors.prefixes import Prefixes
from actors.preview_tokens import PreviewTokens
from actors.previews import Previews
from actors.rebuilds import Origins, Rebuilds, finish_switch
from actors.receipt_writer import ReceiptWriter
from actors.requests import Requests
from actors.rest import Rest
from actors.row_index import RowIndex
from actors.sweep import Sweeper
from actors.transition import Change
from actors.tunings import Tunings
from actors.turns import Turns
from lmeraser.deletion import Deletion, DeletionRequest, Status
from lmeraser.errors import (
    LMEraserError,
    ObjectCorruptError,
    ObjectMissingError,
    StoreError,
)
from lmeraser.hashing import HashKey
from lmeraser.state.commit import Commit
from lmeraser.state.manifest import Manifest, renew_format
from lmeraser.store import Store

# Between two looks at owners that work, and at most between two looks while nothing is pending.
BUSY_S = 0.02
IDLE_S = 1.0


class Coordinator:
    """The only writer of commits. Requests are durable before they are acknowledged.

    Attributes:
        prefixes: those of the ingests that are being written.
        previews: what deletions would do.
        approvals: decides on deletions that wait for it.
        rebuilds: the rebuild that is under way, if one is.
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
        origins: Origins = dict,
        on_append: OnAppend | None = None,
        drafting: Executor | None = None,
    ) -> None:
        """Take over the store: open a term, and go on from the newest commit, or from ``base`` if given.

        Args:
            store, manifest, hash_key: the store's.
            signing_key: signs receipts and checkpoints.
            owners: do the work on clusters.
            lease_s: seconds that every erasure waits for replicas.
            base: see :class:`Journal`.
            origins: only in a draft; see :mod:`actors.rebuilds`.
            on_append: called with each appended record, from any thread.
            drafting: where the draft of a rebuild is worked on; None for the thread that calls :meth:`step`.
        """
        self._store = store
        self._manifest = manifest
        self._hash_key = hash_key
        self._signing_key = signing_key
        self._owners = owners
        self._rest = Rest(BUSY_S)
        self._journal = Journal(store, base, on_append)
        self._journal.open_term()
        renew_format(store, self._journal.check)
        self._committer = Committer(store, manifest, hash_key, self._journal, owners)
        self._committer.load()
        finish_switch(store, manifest, self._committer.commit, self._journal.check)
        self._turns = Turns()
        requests = Requests(hash_key, self._journal, PreviewTokens(hash_key, manifest.store_id))
        self._receipts = ReceiptWriter(store, manifest, hash_key, signing_key, self._journal)
        self._receipts.tidy()
        self._tunings = Tunings(manifest, self._journal, self._committer, owners, origins)
        self._completions = Completions(self._journal, self._receipts, self._tunings)
        self.previews = Previews(
            store, manifest, hash_key, self._journal, self._committer, requests, self._tunings, lease_s
        )
        self._backlog = Backlog()
        self._acceptance = Acceptance(self._journal, self._committer, requests, self._backlog, self._turns, self._rest)
        self.approvals = Approvals(self._journal, requests, self._backlog, self._turns, self._rest)
        self._deletions = Deletions(store, self._journal, self._backlog, self._completions, self._receipts)
        self.prefixes = Prefixes(store)
        self._sweeper = Sweeper(store, manifest, self._journal, self._committer, self._tunings, owners, self.prefixes)
        self._additions = Additions(
            store, manifest, hash_key, self._journal, self._committer, self._sweeper, self.prefixes
        )
        self.rebuilds = Rebuilds(
            store, manifest, self._journal, self._committer, owners, self._sweeper, self._of_draft, drafting, self._rest
        )
        self._eraser = Eraser(
            self._journal,
            self._committer,
            requests,
            self._receipts,
            self._completions,
            self._backlog,
            self.prefixes,
            self._sweeper,
            self.rebuilds,
            lease_s,
        )
        owners.prepare({entry.key: entry.rows for entry in self.commit.clusters} if self.commit is not None else {})
        self._sweeper.sweep()

    def delete(self, request: DeletionRequest) -> Deletion:
        """Accept a deletion. When this returns, the request survives any crash.

        Raises:
            NotReadyError: when the store has never held any rows.
            RequestError, StalePreviewError, RateLimitError, IdempotencyConflictError, StoreError: see
                :meth:`Requests.accept`.
        """
        return self._acceptance.delete(request)

    def retry(self, deletion_id: str) -> Deletion:
        """Tune a failed deletion's clusters again. Raises UnknownDeletionError; RequestError if it has not failed."""
        self._completions.request_retry(deletion_id)
        self._rest.wake()
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
        outcome = self._additions.request(prefix, force=force)
        self._rest.wake()
        return outcome

    def status(self) -> CoordinatorStatus:
        """What the system holds, and its pending work."""
        return status_of(self._journal, self._tunings, self._backlog, idle=self.idle())

    def step(self) -> bool:
        """Do one piece of work; False if there was none to do.

        Raises:
            FencedError: when a newer coordinator has taken over; this one must stop.
        """
        try:
            # A refused request may have been the only sign of a successor, which a step without an append would miss.
            self._journal.heed()
            with self._turns.work():
                working = self._step()
        except LMEraserError as error:
            # A missing object may have been swept by a successor; then this coordinator must stop and not restart.
            with suppress(StoreError):
                self._journal.check()
                if isinstance(error, ObjectCorruptError | ObjectMissingError):
                    mark_damage(self._store, error)
            raise
        if working:
            self._rest.begin_again()
        return working

    def _step(self) -> bool:
        followed = self.rebuilds.follow(deletions_wait=bool(self._backlog.due()), quiet=not self._is_asked())
        if self.rebuilds.switched:
            return followed
        if self._eraser.finish():
            return True
        if is_due(self._journal.history):
            self._write_checkpoint()
        elif due := self._backlog.due():
            self._eraser.erase(due)
        elif self._additions:
            self._additions.add_next()
        elif self._completions.retries:
            self._completions.retry_next()
        elif self.prefixes.drop_expired() or self._sweeper.is_due or self.prefixes.needs_sweep():
            self._sweeper.sweep()
        elif self._take_results() or self._tunings.start() or self._completions.complete():
            pass
        else:
            self._owners.start_ahead()
            return followed
        return True

    def delete_again(self, hashes: Collection[str]) -> None:
        """Accept deletions of the rows whose sample's keyed hash, or whose subject's, is among these."""
        self._acceptance.delete_again(hashes)

    def erase_hashes(self, samples: Collection[str], subjects: Collection[str]) -> str:
        """Accept a deletion of what has these keyed hashes; gives its id."""
        return self._acceptance.erase_hashes(samples, subjects)

    def hold_tunings(self, reason: str) -> None:
        """Start no tuning for this reason; an empty one lets them start again."""
        self._tunings.held = reason

    def retire(self) -> None:
        """End all owners; after the return none of them writes anything."""
        self._tunings.forget(self._owners.stop_tuning(lambda _: True))
        self._owners.retire(self.commit.by_key if self.commit is not None else ())

    @property
    def commit(self) -> Commit | None:
        """The newest commit."""
        return self._committer.commit

    @property
    def index(self) -> RowIndex:
        """The rows of the newest commit."""
        return self._committer.index

    def sweep_everything(self) -> Future[None]:
        """Have everything that the newest commit does not name removed; the future tells when it is done.

        What commits leave over is swept with them. This also finds what is there for no reason that this coordinator
        knows, such as the objects of a copy that was made by hand.
        """
        swept = self._sweeper.everything()
        self._rest.wake()
        return swept

    def commit_again(self) -> None:
        """Commit the state as it is."""
        self._committer.apply(Change())

    def check_term(self) -> None:
        """Raise FencedError once another coordinator has written to the log."""
        self._journal.check()

    def rest(self, longest_s: float = IDLE_S) -> None:
        """Wait until somebody requests something, or it is time to look at the owners again; longer each time."""
        self._rest.pause(longest_s if self.idle() and not self.rebuilds.works else BUSY_S)

    def idle(self) -> bool:
        """Whether nothing is requested, running or awaited."""
        tuning = self._tunings.running or self._tunings.awaiting
        return not (self._is_asked() or tuning or self._journal.history.waiting)

    def _is_asked(self) -> bool:
        return bool(self._backlog or self._additions or self._completions.retries or self._sweeper.is_due)

    def _of_draft(self, store: Store, manifest: Manifest, owners: Owners, origins: Origins) -> Coordinator:
        # No replica answers from a draft, so nothing waits for a lease.
        return Coordinator(store, manifest, self._hash_key, self._signing_key, owners, 0.0, origins=origins)

    def _write_checkpoint(self) -> None:
        with (journal := self._journal).quiet():
            checkpoint_now(self._store, journal.history, journal.head, self._signing_key, journal.check)

    def _take_results(self) -> bool:
        if results := self._tunings.finished():
            self._sweeper.note(result.job.key for result in results)
            self._tunings.take(results)
        return bool(results)
