"""The deletions of a store, where no service is asked: read from the log, and requested of the coordinator on Ray."""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from types import TracebackType
from typing import Any, Self

from actors.checkpoints import archived_deletion, opened_history
from actors.deletion_pages import deletion_page
from actors.log_replay import History
from cluster.cli.output import leave_stdout_to_results
from cluster.cli.target import KeyedTarget
from lmeraser.client.responses import Receipt
from lmeraser.deletion import Deletion, DeletionRequest, Preview, Status
from lmeraser.errors import LMEraserError, ObjectMissingError, ReceiptError, UnknownDeletionError
from lmeraser.paging import DEFAULT_LIMIT, Page
from lmeraser.proof.outcomes import Outcome, outcomes
from lmeraser.state.keys import load_hash_key
from lmeraser.state.log import Log
from lmeraser.state.manifest import load_manifest

_REPLY_TIMEOUT_S = 2.0


class StoreDeletions:
    """The calls of :class:`lmeraser.Client` on deletions, without a service.

    Reading needs the store alone; everything else needs the key folder and Ray, and start the
    coordinator where none runs.
    """

    def __init__(self, target: KeyedTarget) -> None:
        """Open the store.

        Raises:
            ConfigError: when the options name no store.
            StoreError: when there is no store, or one of another format.
        """
        self._target = target
        self._store = target.open_store()
        self._manifest = load_manifest(self._store)
        self._log, self._history = opened_history(self._store)
        self._newest_record: dict[str, int] = {}
        self._retried_at: dict[str, int] = {}
        self._connection = ExitStack()

    def delete(
        self,
        *,
        sample_ids: Sequence[str],
        subject_ids: Sequence[str],
        idempotency_key: str | None,
        deadline: datetime | None,
        preview: str | None = None,
    ) -> Deletion:
        """See Client.delete."""
        until = None if deadline is None else deadline.isoformat()
        request = DeletionRequest(tuple(sample_ids), tuple(subject_ids), idempotency_key, until, preview, _user())
        deletion: Deletion = self._request("delete", request)
        return deletion

    def preview(self, *, sample_ids: Sequence[str], subject_ids: Sequence[str], show_ids: bool) -> Preview:
        """See Client.preview."""
        preview: Preview = self._request("preview", DeletionRequest(tuple(sample_ids), tuple(subject_ids)), show_ids)
        return preview

    def preview_of(self, deletion_id: str, *, show_ids: bool) -> Preview:
        """See Client.preview_of."""
        preview: Preview = self._request("preview_of", deletion_id, show_ids)
        return preview

    def approve(self, deletion_id: str, *, preview: str | None) -> Deletion:
        """See Client.approve."""
        deletion: Deletion = self._request("approve", deletion_id, _user(), preview)
        return deletion

    def decline(self, deletion_id: str, *, reason: str) -> Deletion:
        """See Client.decline."""
        deletion: Deletion = self._request("decline", deletion_id, _user(), reason)
        return deletion

    def retry(self, deletion_id: str) -> Deletion:
        """See Client.retry."""
        self._replay()
        deletion: Deletion = self._request("retry", deletion_id)
        self._retried_at[deletion_id] = self._newest_record.get(deletion_id, 0)
        return deletion

    def deletion(self, deletion_id: str) -> Deletion:
        """See Client.deletion. What holds an erasure up is known to a running coordinator only."""
        deletion = self._replay().deletions.get(deletion_id)
        if deletion is None:
            return archived_deletion(self._store, deletion_id)[0]
        if deletion.status == "accepted":
            return self._running("deletion", deletion_id) or deletion
        if deletion.status == "failed" and self._retried_at.get(deletion_id) == self._newest_record.get(deletion_id, 0):
            # The coordinator has not begun the retry yet.
            return replace(deletion, status="erased", reason=None)
        return deletion

    def deletions_page(
        self, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None, status: Status | None = None
    ) -> Page[Deletion]:
        """See Client.deletions_page."""
        history = self._replay()
        page = deletion_page(self._store, history.archive, history.deletions.values(), limit, cursor, status)
        if any(deletion.status == "accepted" for deletion in page.items):
            return self._running("deletions", limit, cursor, status) or page
        return page

    def receipt(self, deletion_id: str) -> Receipt:
        """See Client.receipt."""
        history = self._replay()
        names = history.receipts.get(deletion_id)
        try:
            if deletion_id not in history.deletions:
                return Receipt(archived_deletion(self._store, deletion_id)[1])
            if names is None:
                raise ReceiptError(f"deletion {deletion_id} has no receipt: it is not erased yet")
            return Receipt(json.loads(self._store.get(names[-1])))
        except UnknownDeletionError as error:
            raise ReceiptError(f"deletion {deletion_id} has no receipt: it is unknown") from error
        except ObjectMissingError as error:
            raise ReceiptError(f"the receipt of deletion {deletion_id} is missing: {error}") from error

    def outcomes(
        self, *, sample_ids: Sequence[str], subject_ids: Sequence[str], deletions: Sequence[str]
    ) -> list[Outcome]:
        """See Client.outcomes. Needs the log and the hash key alone."""
        records, hash_key = Log(self._store).advance(), load_hash_key(self._target.key_folder)
        return outcomes(records, hash_key, sample_ids, subject_ids, deletions)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def _replay(self) -> History:
        records = self._log.advance()
        self._history.replay(records)
        self._newest_record |= {record.body["id"]: record.number for record in records if "id" in record.body}
        return self._history

    def _request(self, method: str, *arguments: Any) -> Any:
        """What the coordinator answers; it is started where none runs."""
        import ray
        from ray._raylet import setproctitle  # type: ignore[attr-defined]  # missing from its stub

        from cluster.runtime import connect, coordinator_of

        leave_stdout_to_results()
        # Ray keeps the command line of whoever connects in its table of jobs, and any user may list processes.
        setproctitle(f"lmeraser {method}")
        connect()
        ref = self._target.ref(self._store)
        settings = self._target.settings()
        coordinator = coordinator_of(ref, self._manifest, settings.owners, settings.deletions)
        return ray.get(getattr(coordinator, method).remote(*arguments))

    def _running(self, method: str, *arguments: Any) -> Any | None:
        """What the running coordinator answers; None where none runs, or it does not answer in time."""
        import ray

        if self._coordinator is None:
            return None
        try:
            return ray.get(getattr(self._coordinator, method).remote(*arguments), timeout=_REPLY_TIMEOUT_S)
        except ray.exceptions.RayError:
            return None

    @cached_property
    def _coordinator(self) -> Any | None:
        from cluster.runtime import connected_coordinator

        leave_stdout_to_results()
        connected = connected_coordinator(self._manifest.store_id, self._store.uri)
        try:
            return self._connection.enter_context(connected)
        except LMEraserError:
            # Without Ray's token no coordinator can be reached; the log is readable all the same.
            return None


def _user() -> str:
    """The name of the user of this machine, who asks without a service and its API keys."""
    try:
        return f"user {getpass.getuser()}"
    except (KeyError, OSError):
        # A container may have no name for its user.
        return f"user {os.getuid()}"
