"""The blocking client's methods on deletions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeVar

from lmeraser.client import calls
from lmeraser.client.arguments import checked_status
from lmeraser.client.exchange import Program
from lmeraser.client.responses import Receipt
from lmeraser.deletion import Deletion, Preview, Status
from lmeraser.paging import DEFAULT_LIMIT, MAX_LIMIT, Page
from lmeraser.proof.outcomes import Outcome

T = TypeVar("T")


class DeletionMethods:
    """What :class:`~lmeraser.client.client.Client` can do with deletions."""

    def delete(
        self,
        *,
        sample_ids: Iterable[str | int] = (),
        subject_ids: Iterable[str | int] = (),
        idempotency_key: str | None = None,
        deadline: datetime | None = None,
        preview: str | None = None,
    ) -> Deletion:
        """Request the deletion of samples, and of all samples of subjects.

        Args:
            sample_ids, subject_ids: text or integers; an integer stands for its decimal digits.
            idempotency_key: requests with the same key and ids delete once; a random one when None. Retries of this
                call always share one key.
            deadline: when the deletion should be completed; clusters with the earliest deadline are tuned first.
            preview: ``token`` of a preview of these ids. The deletion does exactly what it said, or is refused.

        Returns:
            The deletion, usually with the status "accepted". ``unknown_ids`` lists the ids that match no row.

        Example:
            >>> client.delete(sample_ids=["nowhere"], idempotency_key="ticket-17").unknown_ids
            ('nowhere',)

        Raises:
            RequestError: when the deadline has no offset from UTC, an id is neither an integer nor text of 1 to 1024
                characters, or the idempotency key is not 1 to 255 printable ASCII characters.
            ServiceError: when something was committed since the preview (409); nothing is begun then.
        """
        return self._run(calls.delete(sample_ids, subject_ids, idempotency_key, deadline, preview))

    def preview(
        self,
        *,
        sample_ids: Iterable[str | int] = (),
        subject_ids: Iterable[str | int] = (),
        show_ids: bool = False,
    ) -> Preview:
        """What a deletion of these ids would do. Nothing is recorded.

        Args:
            sample_ids, subject_ids: as for :meth:`delete`.
            show_ids: whether to name the rows that would be erased, in ``sample_ids``.

        Example:
            >>> preview = client.preview(subject_ids=["u7"], show_ids=True)
            >>> preview.rows, preview.sample_ids
            (1, ('s7',))
            >>> deletion = client.delete(subject_ids=["u7"], preview=preview.token)
            >>> done = client.wait(deletion.id)
            >>> done.as_previewed, client.receipt(deletion.id).content["after"]["root"] == preview.root
            (True, True)

        Raises:
            ServiceError: when the ids cover too many rows, or something was committed during each of several tries.
        """
        return self._run(calls.preview(sample_ids, subject_ids, show_ids))

    def delete_from_file(
        self,
        file: str | Path,
        *,
        column: str | None = None,
        of: Literal["samples", "subjects"] = "samples",
        idempotency_key: str | None = None,
    ) -> list[Deletion]:
        """Request the deletion of the ids of a table: CSV, JSON lines or Parquet, as the file's name says.

        Args:
            file: at most 1,000,000 ids, kept exactly as they are written.
            column: the column of the ids; when None, the only one that is named like one of ids.
            of: what the ids are those of.
            idempotency_key: as for :meth:`delete`.

        Returns:
            The deletions, one for every 100,000 ids.

        Example:
            >>> size = Path("gone.csv").write_text("sample_id,reason\\ns20,art. 17\\n")
            >>> (deletion,) = client.delete_from_file("gone.csv")
            >>> done = client.wait(deletion.id)
            >>> (outcome,) = client.outcomes(sample_ids=["s20"], deletions=[deletion.id])
            >>> outcome.outcome, outcome.keyed_hash in client.receipt(deletion.id).content["samples"]
            ('erased', True)

        Raises:
            DataError: when the file cannot be read, or its name does not say what it is.
            ServiceError: when a line is malformed (422); the message names it, and nothing is begun.
        """
        return self._run(calls.delete_from_file(Path(file), column, of, idempotency_key))

    def outcomes(
        self,
        *,
        sample_ids: Iterable[str | int] = (),
        subject_ids: Iterable[str | int] = (),
        deletions: Iterable[str] = (),
    ) -> list[Outcome]:
        """What became of ids, samples first: "erased", "already erased", "unknown", "waiting", "declined" or "not
        requested".

        Args:
            sample_ids, subject_ids: at most 100,000.
            deletions: ids of the deletions that are asked about; what others erased is "already erased".

        Returns:
            One outcome per id, with its keyed hash, which the receipt of the deletion that erased it names.
        """
        return self._run(calls.outcomes(sample_ids, subject_ids, deletions))

    def preview_of(self, deletion_id: str, *, show_ids: bool = False) -> Preview:
        """What a deletion that waits for approval would do; :meth:`approve` takes the ``token``."""
        return self._run(calls.preview_of(deletion_id, show_ids))

    def approve(self, deletion_id: str, *, preview: str | None = None) -> Deletion:
        """Accept a deletion that waits for approval; needs the scope "approve", and another name than its requester's.

        Args:
            deletion_id: of the deletion.
            preview: ``token`` of a preview of it. The deletion does exactly what it said, or is not approved.

        Raises:
            ServiceError: when it does not wait (409), was requested under the same name (403), or something was
                committed since the preview (409).
        """
        return self._run(calls.approve(deletion_id, preview))

    def decline(self, deletion_id: str, *, reason: str) -> Deletion:
        """Refuse a deletion that waits for approval; needs the scope "approve".

        Args:
            deletion_id: of the deletion.
            reason: why. It stays in the log for good, in clear.

        Raises:
            ServiceError: when it does not wait (409).
        """
        return self._run(calls.decline(deletion_id, reason))

    def deletion(self, deletion_id: str) -> Deletion:
        """One deletion with its current status."""
        return self._run(calls.deletion(deletion_id))

    def retry(self, deletion_id: str) -> Deletion:
        """Have the clusters of a failed deletion tuned again.

        The status remains "failed" until the coordinator has taken up the retry; only then does :meth:`wait` wait.
        """
        return self._run(calls.retry(deletion_id))

    def deletions(self, *, status: Status | None = None) -> Iterator[Deletion]:
        """All deletions, newest first, or those with this status; each page is fetched when it is needed.

        Example:
            >>> pending = list(client.deletions(status="accepted"))
            >>> newest = next(client.deletions())

        Raises:
            RequestError: when there is no such status.
        """
        status = checked_status(status)
        return items(lambda cursor: self.deletions_page(limit=MAX_LIMIT, cursor=cursor, status=status))

    def deletions_page(
        self, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None, status: Status | None = None
    ) -> Page[Deletion]:
        """One page of the deletions, newest first.

        Args:
            limit: most deletions on the page, 1 to 1000.
            cursor: ``next_cursor`` of the previous page; None for the first page.
            status: leaves out the deletions that have another one.

        Raises:
            RequestError: when an argument is not allowed.
        """
        return self._run(calls.deletions_page(limit, cursor, status))

    def wait(
        self,
        deletion_id: str,
        *,
        status: Literal["erased", "completed"] = "completed",
        timeout_s: float = 600.0,
        progress: Callable[[Deletion], None] | None = None,
    ) -> Deletion:
        """Poll a deletion until it has reached a status; ``progress`` is called after every poll.

        Example:
            >>> deletion = client.delete(sample_ids=["s17"])
            >>> polls = []
            >>> client.wait(deletion.id, status="erased", progress=polls.append) == polls[-1]
            True

        Raises:
            WaitTimeoutError: when it has not reached the status within ``timeout_s`` seconds.
            ServiceError: when it was declined, or failed while "completed" was awaited.
        """
        return self._run(calls.wait(deletion_id, status, timeout_s, progress))

    def receipt(self, deletion_id: str) -> Receipt:
        """The signed statement that the rows were erased; available once the status is "erased"."""
        return self._run(calls.receipt(deletion_id))

    def _run(self, program: Program[T]) -> T:
        raise NotImplementedError


def items(fetch: Callable[[str | None], Page[T]]) -> Iterator[T]:
    """The items of all pages, each fetched when it is needed."""
    page = fetch(None)
    yield from page.items
    while page.next_cursor is not None:
        page = fetch(page.next_cursor)
        yield from page.items
