"""The coordinator as a replica sees it: looked up by name for each call, and never created."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

import ray
from ray.exceptions import RayActorError, RayTaskError

from actors.remote.names import NAMESPACE, coordinator_name
from lmeraser.deletion import Deletion, DeletionRequest, Preview, Status
from lmeraser.errors import LMEraserError, NotReadyError
from lmeraser.paging import Page
from lmeraser.proof.outcomes import Outcome


class Coordinator(Protocol):
    """What the service needs of the coordinator. Every method raises NotReadyError when none is running."""

    async def delete(self, request: DeletionRequest) -> Deletion:
        """Accept a deletion. Raises RequestError, IdempotencyConflictError, StalePreviewError."""

    async def preview(self, request: DeletionRequest, with_ids: bool) -> Preview:
        """What a deletion would do. Raises RequestError, StalePreviewError."""

    async def preview_of(self, deletion_id: str, with_ids: bool) -> Preview:
        """What a deletion that waits for approval would do. Raises UnknownDeletionError, DecidedError as well."""

    async def approve(self, deletion_id: str, by: str, preview: str | None) -> Deletion:
        """Accept a deletion that waits. Raises UnknownDeletionError, DecidedError, SelfApprovalError, RequestError."""

    async def decline(self, deletion_id: str, by: str, reason: str) -> Deletion:
        """Refuse a deletion that waits. Raises UnknownDeletionError, DecidedError, RequestError."""

    async def retry(self, deletion_id: str) -> Deletion:
        """Tune the clusters of a failed deletion again. Raises UnknownDeletionError, RequestError."""

    async def deletion(self, deletion_id: str) -> Deletion:
        """One deletion. Raises UnknownDeletionError."""

    async def deletions(self, limit: int, cursor: str | None, status: Status | None) -> Page[Deletion]:
        """One page of the deletions, newest first. Raises RequestError for a cursor of another list."""

    async def outcomes(
        self, sample_ids: tuple[str, ...], subject_ids: tuple[str, ...], deletions: tuple[str, ...]
    ) -> list[Outcome]:
        """What became of these ids, by these deletions or others."""

    async def receipt(self, deletion_id: str) -> dict[str, Any]:
        """A deletion's receipt. Raises UnknownDeletionError; NotReadyError before its rows are erased."""


class CoordinatorProxy:
    """The coordinator of one store, called through Ray."""

    def __init__(self, store_id: str, store_uri: str) -> None:
        self._name = coordinator_name(store_id, store_uri)

    async def delete(self, request: DeletionRequest) -> Deletion:
        deletion: Deletion = await self._call("delete", request)
        return deletion

    async def preview(self, request: DeletionRequest, with_ids: bool) -> Preview:
        preview: Preview = await self._call("preview", request, with_ids)
        return preview

    async def preview_of(self, deletion_id: str, with_ids: bool) -> Preview:
        preview: Preview = await self._call("preview_of", deletion_id, with_ids)
        return preview

    async def approve(self, deletion_id: str, by: str, preview: str | None) -> Deletion:
        deletion: Deletion = await self._call("approve", deletion_id, by, preview)
        return deletion

    async def decline(self, deletion_id: str, by: str, reason: str) -> Deletion:
        deletion: Deletion = await self._call("decline", deletion_id, by, reason)
        return deletion

    async def retry(self, deletion_id: str) -> Deletion:
        deletion: Deletion = await self._call("retry", deletion_id)
        return deletion

    async def deletion(self, deletion_id: str) -> Deletion:
        deletion: Deletion = await self._call("deletion", deletion_id)
        return deletion

    async def deletions(self, limit: int, cursor: str | None, status: Status | None) -> Page[Deletion]:
        page: Page[Deletion] = await self._call("deletions", limit, cursor, status)
        return page

    async def outcomes(
        self, sample_ids: tuple[str, ...], subject_ids: tuple[str, ...], deletions: tuple[str, ...]
    ) -> list[Outcome]:
        outcomes: list[Outcome] = await self._call("outcomes", sample_ids, subject_ids, deletions)
        return outcomes

    async def receipt(self, deletion_id: str) -> dict[str, Any]:
        receipt: dict[str, Any] = await self._call("receipt", deletion_id)
        return receipt

    async def _call(self, method: str, *arguments: Any) -> Any:
        try:
            # The look-up calls Ray's control plane and blocks.
            actor = await asyncio.to_thread(ray.get_actor, self._name, namespace=NAMESPACE)
            return await getattr(actor, method).remote(*arguments)
        except RayTaskError as error:
            if isinstance(error.cause, LMEraserError):
                raise error.cause from None
            raise
        except (ValueError, RayActorError) as error:
            raise NotReadyError("the coordinator is not running now; the service starts it again") from error
