"""When an erased deletion is completed, or has failed because a touched cluster could not be tuned again."""

from __future__ import annotations

from collections import deque

from actors.journal import Journal
from actors.receipt_writer import ReceiptWriter
from actors.tunings import Tunings
from lmeraser.deletion import Deletion
from lmeraser.errors import RequestError
from lmeraser.state.record_bodies import FailedBody


class Completions:
    """Completes the deletions of one coordinator.

    Attributes:
        retries: failed deletions whose clusters are to be tuned again, oldest request first.
    """

    def __init__(self, journal: Journal, receipts: ReceiptWriter, tunings: Tunings) -> None:
        self._journal = journal
        self._receipts = receipts
        self._tunings = tunings
        self.retries: deque[str] = deque()

    def is_tuned(self, deletion_id: str) -> bool:
        """Whether no cluster that the deletion waits for is to be tuned, or could not be."""
        keys = self._journal.history.waiting[deletion_id]
        return keys.isdisjoint(self._tunings.awaiting) and keys.isdisjoint(self._tunings.given_up)

    def complete(self) -> bool:
        """Record every erased deletion whose clusters are tuned or given up; whether there was one."""
        history, awaiting, given_up = self._journal.history, set(self._tunings.awaiting), self._tunings.given_up
        settled = {
            deletion_id: keys
            for deletion_id, keys in history.waiting.items()
            if keys.isdisjoint(awaiting) and history.deletion(deletion_id).status == "erased"
        }
        failed = {deletion_id: min(keys & set(given_up), default=None) for deletion_id, keys in settled.items()}
        self._journal.append_deletions(
            "failed",
            [
                FailedBody(deletion_id, f"cluster {key} could not be tuned: {given_up[key]}")
                for deletion_id, key in failed.items()
                if key is not None
            ],
        )
        self._receipts.completed([deletion_id for deletion_id, key in failed.items() if key is None])
        return bool(settled)

    def request_retry(self, deletion_id: str) -> Deletion:
        """Have the clusters of a failed deletion tuned again by :meth:`retry_next`. Safe to call from another thread.

        Raises:
            UnknownDeletionError: when there is no such deletion.
            RequestError: when the deletion has not failed.
        """
        deletion = self._journal.history.deletion(deletion_id)
        if deletion.status != "failed":
            raise RequestError(f"deletion {deletion_id} is {deletion.status}; only a failed deletion can be retried")
        self.retries.append(deletion_id)
        return deletion

    def retry_next(self) -> None:
        """Carry out the oldest request for a retry, unless the deletion no longer counts as failed."""
        deletion_id = self.retries[0]
        if self._journal.history.deletion(deletion_id).status == "failed":
            self._tunings.retry(deletion_id)
        self.retries.popleft()
