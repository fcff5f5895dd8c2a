"""Accepts deletions: each is recorded, and then waits in the backlog for its rows to be erased."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import nullcontext

from actors.backlog import Backlog
from actors.committer import Committer
from actors.journal import Journal
from actors.requests import Requests
from actors.rest import Rest
from actors.row_index import Rows
from actors.turns import Turns
from lmeraser.deletion import MAX_IDS, Deletion, DeletionRequest
from lmeraser.errors import NotReadyError


class Acceptance:
    """Accepts deletions for one coordinator. Safe to use from several threads."""

    def __init__(
        self, journal: Journal, committer: Committer, requests: Requests, backlog: Backlog, turns: Turns, rest: Rest
    ) -> None:
        """Also adds to the backlog what was accepted before and is not erased yet."""
        self._committer = committer
        self._requests = requests
        self._backlog = backlog
        self._turns = turns
        self._rest = rest
        history = journal.history
        for deletion in history.deletions.values():
            if deletion.status == "accepted":
                backlog.add(deletion.id, bound=history.is_bound(deletion.id))

    def delete(self, request: DeletionRequest) -> Deletion:
        """See Coordinator.delete."""
        if self._committer.commit is None:
            raise NotReadyError("the store holds no rows: ingest some first")
        bound = request.preview is not None
        # What was previewed stays right while nothing is being committed.
        with self._turns.decision() if bound else nullcontext():
            deletion, new = self._requests.accept(self._committer.index, request)
            if new and deletion.status == "accepted":
                self._backlog.add(deletion.id, bound=bound)
                self._rest.wake()
        return deletion

    def delete_again(self, hashes: Collection[str]) -> None:
        """See Coordinator.delete_again."""
        index = self._committer.index
        samples = Rows.joined([index.of_samples(hashes), index.of_subjects(hashes)]).hashes()
        for start in range(0, len(samples), MAX_IDS):
            self._backlog.add(self._requests.accept_again(index, samples[start : start + MAX_IDS]))

    def erase_hashes(self, samples: Collection[str], subjects: Collection[str]) -> str:
        """See Coordinator.erase_hashes."""
        deletion_id = self._requests.accept_hashes(self._committer.index, samples, subjects)
        self._backlog.add(deletion_id)
        return deletion_id
