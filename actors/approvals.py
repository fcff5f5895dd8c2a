"""Approvals: where they are required, a deletion waits until somebody else than its requester decides (decision 61).

Who is who, is said by names: those of API keys over HTTP. They are in the log, which is why they should not be those of
people where a role's name serves as well.
"""

from __future__ import annotations

from contextlib import nullcontext

from actors.backlog import Backlog
from actors.journal import Journal
from actors.requests import Requests
from actors.rest import Rest
from actors.turns import Turns
from lmeraser.deletion import Deletion
from lmeraser.errors import DecidedError, RequestError, SelfApprovalError
from lmeraser.ids import comparable, is_text
from lmeraser.state.record_bodies import ApprovedBody, DeclinedBody, PolicyBody, RequestBody

MAX_REASON = 1000


class Approvals:
    """Decides on the deletions of one coordinator that wait for it. Safe to use from several threads."""

    def __init__(self, journal: Journal, requests: Requests, backlog: Backlog, turns: Turns, rest: Rest) -> None:
        self._journal = journal
        self._requests = requests
        self._backlog = backlog
        self._turns = turns
        self._rest = rest

    def require(self, required: bool) -> None:
        """Have deletions that are requested from now on wait for an approval, or no longer."""
        with self._journal.quiet():
            if self._journal.history.approval != required:
                self._journal.append("policy", PolicyBody(required).to_body())

    def approve(self, deletion_id: str, by: str, preview: str | None = None) -> Deletion:
        """Accept a deletion that waits for it.

        Args:
            deletion_id: of the deletion.
            by: name of whoever approves it.
            preview: token of a preview of this deletion, if exactly what it said is to be done. Without it, the one
                that the request named counts.

        Raises:
            UnknownDeletionError: when there is no such deletion.
            DecidedError: when it does not wait for an approval, or no longer.
            SelfApprovalError: when the same name requested it.
            StalePreviewError: when something was committed since the preview; nothing is begun then.
            RequestError: when the preview is not one of this deletion.
        """
        self._journal.history.deletion(deletion_id)
        bound = preview is not None or self._journal.history.is_bound(deletion_id)
        # What was previewed stays right while nothing is being committed.
        with self._turns.decision() if bound else nullcontext(), self._journal.quiet():
            deletion = self._waiting(deletion_id)
            if _same(deletion.requested_by, by):
                raise SelfApprovalError(
                    f"deletion {deletion_id} was requested by {deletion.requested_by!r}: somebody else must approve it"
                )
            previewed = self._previewed(self._journal.history.bodies[deletion_id], preview)
            self._journal.append_deletions("approved", [ApprovedBody(deletion_id, by, previewed)])
            self._backlog.add(deletion_id, bound=bound)
        self._rest.wake()
        return self._journal.history.deletion(deletion_id)

    def decline(self, deletion_id: str, by: str, reason: str) -> Deletion:
        """Refuse a deletion that waits for approval; nothing is erased.

        Args:
            deletion_id: of the deletion.
            by: name of whoever declines it, who may be its requester.
            reason: why; it is in the log for good, in clear.

        Raises:
            UnknownDeletionError: when there is no such deletion.
            DecidedError: when it does not wait for an approval, or no longer.
            RequestError: when the reason is empty, too long or not text.
        """
        if not is_text(reason) or not reason.strip() or len(reason) > MAX_REASON:
            raise RequestError(
                f"the reason is {reason[:80]!r}; allowed is Unicode text of 1 to {MAX_REASON} characters"
            )
        with self._journal.quiet():
            self._waiting(deletion_id)
            self._journal.append_deletions("declined", [DeclinedBody(deletion_id, by, reason)])
        return self._journal.history.deletion(deletion_id)

    def _waiting(self, deletion_id: str) -> Deletion:
        deletion = self._journal.history.deletion(deletion_id)
        if deletion.status == "requested":
            return deletion
        decided = f" by {deletion.decided_by!r}" if deletion.decided_by is not None else ""
        verb = "was declined" if deletion.status == "declined" else "was approved" if decided else "needs no approval"
        raise DecidedError(f"deletion {deletion_id} {verb}{decided}: it does not wait for an approval")

    def _previewed(self, request: RequestBody, preview: str | None) -> str | None:
        """The state root of the approver's preview, if there is one; checks that it, or the request's, is fresh."""
        if preview is not None:
            previewed = self._requests.previewed(preview, self._requests.waiting(request.id).asked)
            self._requests.check_fresh(previewed.commit)
            return previewed.root
        if request.preview_of is not None:
            self._requests.check_fresh(request.preview_of)
        return None


def _same(one: str, other: str) -> bool:
    return comparable(one).strip().casefold() == comparable(other).strip().casefold()
