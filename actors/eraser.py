"""Carries out deletions: from the backlog to the receipt.

What one commit erases is bounded, so that a request for a few rows does not wait for one that touches everything: small
requests go first, and a large one is carried out in parts, each in a commit of its own (decision 50).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from actors.backlog import Backlog
from actors.committer import Committer
from actors.completions import Completions
from actors.fail_points import FailPoint, fail_point
from actors.journal import Journal
from actors.prefixes import Prefixes
from actors.rebuilds import Rebuilds
from actors.receipt_writer import ReceiptWriter
from actors.regroup import by_cluster
from actors.requests import Requests, Resolution
from actors.row_index import Rows
from actors.sweep import Sweeper
from actors.transition import Change
from lmeraser.errors import LMEraserError, OwnerFailedError
from lmeraser.state.commit import Erasure

# Segments that one commit may write again: at most 65,536 rows.
MAX_SEGMENTS = 128


@dataclass(frozen=True)
class _Part:
    """What one commit does for one request.

    Attributes:
        request: what the request still covers.
        clusters: keys of the clusters that hold its rows.
        rows: those of its rows that are erased now.
        remaining: whether some of its rows are left for later.
    """

    request: Resolution
    clusters: tuple[str, ...]
    rows: Rows
    remaining: bool


class Eraser:
    """Erases the rows of requests."""

    def __init__(
        self,
        journal: Journal,
        committer: Committer,
        requests: Requests,
        receipts: ReceiptWriter,
        completions: Completions,
        backlog: Backlog,
        prefixes: Prefixes,
        sweeper: Sweeper,
        rebuilds: Rebuilds,
        lease_s: float,
    ) -> None:
        self._journal = journal
        self._committer = committer
        self._requests = requests
        self._receipts = receipts
        self._completions = completions
        self._backlog = backlog
        self._prefixes = prefixes
        self._sweeper = sweeper
        self._rebuilds = rebuilds
        self._lease_s = lease_s
        # Requests whose rows are erased here and not yet in the draft of a rebuild, by what was committed together.
        self._in_draft: list[tuple[str, ...]] = []

    def erase(self, ids: Sequence[str]) -> None:
        """Erase rows of these requests, in one commit.

        Each step is idempotent. If one fails, the same requests are due again and all steps are repeated: there is one
        commit, the next step ends the remaining owners, and a receipt with a record is not written twice.
        """
        history = self._journal.history
        done = [each for each in ids if each in history.committed]
        if not done:
            parts = self._parts(ids)
            if not self._commit(parts):
                return
            done = [part.request.id for part in parts if not part.remaining]
        if done:
            self._wait_out_lease()
        self._sweeper.retire()
        fail_point(FailPoint.OWNERS_RETIRED)
        self._sweeper.sweep()
        fail_point(FailPoint.SWEPT)
        if done and not self._finish(done):
            # Others are erased meanwhile.
            self._backlog.set_aside(done)
            self._in_draft.append(tuple(done))

    def finish(self) -> bool:
        """Sign erasures that the draft of a rebuild has followed; whether there were any."""
        for ids in self._in_draft:
            if self._finish(ids):
                self._in_draft.remove(ids)
                return True
        return False

    def _finish(self, ids: Sequence[str]) -> bool:
        """Have the draft of a rebuild follow these erasures, and sign them; False while the draft has not."""
        try:
            if not self._rebuilds.erase(ids):
                return False
        except OwnerFailedError as error:
            self._backlog.put_off(ids, error)
        else:
            self._sign(ids)
        return True

    def _parts(self, ids: Sequence[str]) -> list[_Part]:
        """What the next commit does, for the smallest requests first."""
        bodies = self._journal.history.bodies
        chosen: set[str] = set()
        segments = 0
        parts = []
        for request_id in sorted(ids, key=lambda each: len(bodies[each].hashes())):
            # To resolve a large request takes long, and this commit has no room for another.
            if chosen and segments >= MAX_SEGMENTS:
                break
            # Only now, so that rows which an ingest has added in between are among them (decision 42).
            request = self._requests.resolve(request_id, self._committer.index)
            clusters = by_cluster(request.rows, self._committer.partition)
            for key, rows in clusters.items():
                if key not in chosen and (segments < MAX_SEGMENTS or not chosen):
                    chosen.add(key)
                    segments += self._segments(key, rows)
            now = [rows for key, rows in clusters.items() if key in chosen]
            if now or not clusters:
                remaining = len(now) < len(clusters)
                parts.append(_Part(request, tuple(sorted(clusters)), Rows.joined(now), remaining))
        return parts

    def _segments(self, key: str, rows: Rows) -> int:
        """How many segments of a cluster these rows are in, at most."""
        assert self._committer.commit is not None
        return min(len(rows), len(self._committer.commit.by_key[key].segments))

    def _commit(self, parts: Sequence[_Part]) -> bool:
        """Commit the state without the rows of these parts; False if that is put off (decision 40)."""
        ids = [part.request.id for part in parts]
        for hashes in map(self._journal.history.named, ids):
            self._prefixes.forbid(hashes, self._journal.position.number)
        erasures = tuple(map(self._erasure, parts))
        try:
            applied = self._committer.apply(Change(erasures, Rows.joined(part.rows for part in parts)))
        except LMEraserError as error:
            self._sweeper.note_everything()
            if not self._backlog.put_off(ids, error):
                raise
            return False
        self._sweeper.follow(applied)
        return True

    def _erasure(self, part: _Part) -> Erasure:
        """What the commit says of a part; the first one names all clusters that hold rows of the request."""
        request = part.request
        is_first = request.id not in self._journal.history.partial
        clusters = part.clusters if is_first else ()
        return Erasure(request.id, clusters, request.samples, request.subjects, len(part.rows), part.remaining)

    def _wait_out_lease(self) -> None:
        """Until the lease of every replica has expired, one may still answer from the previous commit (decision 38)."""
        time.sleep(self._lease_s)
        fail_point(FailPoint.LEASE_WAITED)

    def _sign(self, ids: Sequence[str]) -> None:
        history = self._journal.history
        try:
            # If the step failed after a record, it is taken again and must not record an erasure twice.
            unsigned = [each for each in ids if history.deletion(each).status == "accepted"]
            self._receipts.erased(unsigned, self._completions.is_tuned)
        finally:
            for request_id in ids:
                if history.deletion(request_id).status != "accepted":
                    self._backlog.done(request_id)
