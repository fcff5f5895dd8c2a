"""What is known of deletions: those in the history, with what is not in the log yet, and those that were archived."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from actors.backlog import Backlog
from actors.checkpoints import archived_deletion
from actors.completions import Completions
from actors.deletion_pages import deletion_page
from actors.journal import Journal
from actors.receipt_writer import ReceiptWriter
from lmeraser.deletion import Deletion, Status
from lmeraser.errors import NotReadyError
from lmeraser.paging import Page
from lmeraser.store import Store

DeletionPage = Page[Deletion]


class Deletions:
    """Reads deletions and their receipts. Safe to use from several threads."""

    def __init__(
        self, store: Store, journal: Journal, backlog: Backlog, completions: Completions, receipts: ReceiptWriter
    ) -> None:
        self._store = store
        self._journal = journal
        self._history = journal.history
        self._backlog = backlog
        self._completions = completions
        self._receipts = receipts

    def deletion(self, deletion_id: str) -> Deletion:
        """One deletion. Raises UnknownDeletionError."""
        deletion = self._history.deletions.get(deletion_id)
        if deletion is None:
            return archived_deletion(self._store, deletion_id)[0]
        return self._current(deletion, self._backlog.held_up())

    def page(self, limit: int, cursor: str | None = None, status: Status | None = None) -> DeletionPage:
        """One page of the deletions, newest first; see :func:`deletion_page`."""
        # A checkpoint moves deletions from the history to an archive.
        with self._journal.quiet():
            archive, recent = self._history.archive, self.recent()
        return deletion_page(self._store, archive, recent, limit, cursor, status)

    def recent(self) -> list[Deletion]:
        """The deletions that have not been archived, oldest first: among them all that are pending."""
        held_up = self._backlog.held_up()
        return [self._current(deletion, held_up) for deletion in list(self._history.deletions.values())]

    def receipt(self, deletion_id: str) -> dict[str, Any]:
        """A deletion's receipt.

        Raises:
            UnknownDeletionError: when there is no such deletion.
            NotReadyError: when its rows are not erased yet.
        """
        if deletion_id not in self._history.deletions:
            return archived_deletion(self._store, deletion_id)[1]
        if deletion_id not in self._history.receipts:
            raise NotReadyError(f"deletion {deletion_id} has no receipt until it is erased")
        return self._receipts.read(deletion_id)

    def _current(self, deletion: Deletion, held_up: Mapping[str, str]) -> Deletion:
        """With what is not yet in the log: that a retry will begin, or why an erasure is held up."""
        if deletion.status == "failed" and deletion.id in self._completions.retries:
            return replace(deletion, status="erased", reason=None)
        return replace(deletion, reason=held_up.get(deletion.id, deletion.reason))
