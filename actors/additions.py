"""The ingests that wait to be added, one after the other, each in one commit."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future

from actors.committer import ApplyResult, Committer
from actors.ingests import IngestOutcome, PendingIngest, read_incoming
from actors.journal import Journal
from actors.prefixes import Prefixes
from actors.sweep import Sweeper
from actors.transition import Change
from lmeraser.errors import DataError, ObjectCorruptError, ObjectMissingError, OwnerFailedError, RequestError
from lmeraser.hashing import HashKey
from lmeraser.state.manifest import Manifest
from lmeraser.store import Store

_NOTHING = ApplyResult()


class Additions:
    """A queue of ingests; ``bool()`` says whether one waits. :meth:`request` is for any thread."""

    def __init__(
        self,
        store: Store,
        manifest: Manifest,
        hash_key: HashKey,
        journal: Journal,
        committer: Committer,
        sweeper: Sweeper,
        prefixes: Prefixes,
    ) -> None:
        self._store = store
        self._manifest = manifest
        self._hash_key = hash_key
        self._journal = journal
        self._committer = committer
        self._sweeper = sweeper
        self._prefixes = prefixes
        self._ingests: deque[PendingIngest] = deque()

    def __bool__(self) -> bool:
        return bool(self._ingests)

    def request(self, prefix: str, *, force: bool) -> Future[IngestOutcome]:
        """See Coordinator.ingest."""
        ingest = PendingIngest(prefix, self._prefixes.hand_over(prefix), force)
        self._ingests.append(ingest)
        return ingest.outcome

    def add_next(self) -> None:
        """Add the new rows of the ingest that has waited longest."""
        ingest = self._ingests[0]
        history, index = self._journal.history, self._committer.index
        try:
            self._prefixes.check(ingest.prefix)
            added = read_incoming(
                self._store, ingest, history, self._hash_key, self._manifest.config, index, self._committer.partition
            )
        except (DataError, ObjectCorruptError, ObjectMissingError, RequestError) as error:
            return self._finish(ingest, error)
        # If another coordinator has swept the rows away, they were missing here: that is not an ingest without rows.
        self._journal.check()
        outcome = IngestOutcome(added.rows, added.present, added.erased)
        try:
            applied = self._committer.apply(Change(added=added)) if outcome.added else _NOTHING
        except OwnerFailedError as error:
            self._sweeper.note_everything()
            return self._finish(ingest, error)
        return self._finish(ingest, outcome, applied)

    def _finish(
        self, ingest: PendingIngest, outcome: IngestOutcome | Exception, applied: ApplyResult = _NOTHING
    ) -> None:
        """Sweep the objects below the prefix, and report the outcome."""
        # If a later step fails, it is taken again and must not add the rows a second time.
        self._ingests.popleft()
        self._prefixes.added(ingest.prefix)
        self._sweeper.follow(applied)
        try:
            self._sweeper.retire()
            self._sweeper.sweep()
        finally:
            ingest.resolve(outcome)
