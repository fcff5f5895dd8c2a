"""The HTTP surface of deletions."""

from __future__ import annotations

import logging
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response

from lmeraser.deletion import MAX_IDS, Deletion, Preview, Status
from lmeraser.ids import MAX_CHARACTERS
from lmeraser.paging import DEFAULT_LIMIT
from serving.access import caller_of, guarded_router
from serving.api_keys import ApiKeys
from serving.bodies import SMALL_BODY_BYTES
from serving.coordinator_proxy import Coordinator
from serving.problems import request_id_of
from serving.responses import BODY_PROBLEMS, CONFLICT, NOT_FOUND, Limit, NextCursor
from serving.schemas import ApprovalRequest, DeclineRequest, DeletionRequest, DeletionsAnswer, PreviewRequest

logger = logging.getLogger(__name__)

# The most ids, each of the greatest length in ASCII, with quotes and commas.
MAX_DELETION_BYTES = MAX_IDS * (MAX_CHARACTERS + 4)


def deletion_routes(coordinator: Coordinator, keys: ApiKeys) -> APIRouter:
    """The routes of deletions."""
    router = APIRouter()
    router.include_router(_requests(coordinator, guarded_router(keys, "delete", _max_bytes)))
    router.include_router(_decisions(coordinator, guarded_router(keys, "approve", _max_bytes)))
    router.include_router(_shared(coordinator, guarded_router(keys, ("delete", "approve"))))
    router.include_router(_reading(coordinator, guarded_router(keys, ("read", "delete", "approve"))))
    return router


def _requests(coordinator: Coordinator, router: APIRouter) -> APIRouter:
    @router.post("/v1/deletions", status_code=202, responses=BODY_PROBLEMS | CONFLICT)
    async def delete(
        body: DeletionRequest,
        request: Request,
        response: Response,
        idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
    ) -> Deletion:
        """Request a deletion. A repeated request with the same idempotency key and body returns the same deletion.

        Where approval is required, its status is `requested` until somebody else approves or declines it.
        """
        deletion = await coordinator.delete(body.asked(idempotency_key, caller_of(request)))
        logger.info("request %s: deletion %s is %s", request_id_of(request.scope), deletion.id, deletion.status)
        # Relative to /v1/deletions, so that it is also right behind a proxy with a path prefix.
        response.headers["Location"] = f"deletions/{deletion.id}"
        return deletion

    @router.post("/v1/deletions/preview", responses=BODY_PROBLEMS | CONFLICT)
    async def preview(body: PreviewRequest) -> Preview:
        """What a deletion of these ids would do. Nothing is recorded.

        With the `token` in its body, a deletion of the same ids does exactly this, or is refused (409) because
        something was committed in between. 409 here if something was committed during each of several tries.
        """
        return await coordinator.preview(body.request(), body.show_ids)

    @router.post("/v1/deletions/{deletion_id}/retry", status_code=202, responses=NOT_FOUND)
    async def retry(deletion_id: str) -> Deletion:
        """Have the clusters of a failed deletion tuned again; 422 if it has not failed."""
        return await coordinator.retry(deletion_id)

    return router


def _decisions(coordinator: Coordinator, router: APIRouter) -> APIRouter:
    @router.post("/v1/deletions/{deletion_id}/approve", status_code=202, responses=BODY_PROBLEMS | NOT_FOUND | CONFLICT)
    async def approve(deletion_id: str, request: Request, body: ApprovalRequest) -> Deletion:
        """Accept a deletion that waits for approval. 403 for whoever requested it, 409 if it does not wait."""
        return await coordinator.approve(deletion_id, caller_of(request), body.preview)

    @router.post("/v1/deletions/{deletion_id}/decline", responses=BODY_PROBLEMS | NOT_FOUND | CONFLICT)
    async def decline(deletion_id: str, request: Request, body: DeclineRequest) -> Deletion:
        """Refuse a deletion that waits for approval, with a reason; nothing is erased. 409 if it does not wait."""
        return await coordinator.decline(deletion_id, caller_of(request), body.reason)

    return router


def _shared(coordinator: Coordinator, router: APIRouter) -> APIRouter:
    @router.post("/v1/deletions/{deletion_id}/preview", responses=NOT_FOUND | CONFLICT)
    async def preview_of(
        deletion_id: str,
        show_ids: Annotated[bool, Query(description="Whether to name the rows that would be erased.")] = False,
    ) -> Preview:
        """What a deletion that waits for approval would do; with the `token`, its approval does exactly this."""
        return await coordinator.preview_of(deletion_id, show_ids)

    return router


def _reading(coordinator: Coordinator, router: APIRouter) -> APIRouter:
    @router.get("/v1/deletions")
    async def list_deletions(
        limit: Limit = DEFAULT_LIMIT,
        cursor: NextCursor = None,
        status: Annotated[Status | None, Query(description="Only deletions with this status.")] = None,
    ) -> DeletionsAnswer:
        """List deletions, newest first, one page at a time. Those that are accepted meanwhile are left out.

        Deletions that were archived come last, in the order in which they were: some time after their completion.
        """
        page = await coordinator.deletions(limit, cursor, status)
        return DeletionsAnswer(deletions=list(page.items), next_cursor=page.next_cursor)

    @router.get("/v1/deletions/{deletion_id}", responses=NOT_FOUND)
    async def show_deletion(deletion_id: str) -> Deletion:
        """One deletion with its current status."""
        return await coordinator.deletion(deletion_id)

    @router.get("/v1/deletions/{deletion_id}/receipt", responses=NOT_FOUND)
    async def receipt(deletion_id: str) -> dict[str, Any]:
        """The signed statement that the rows were erased; 503 while they are not."""
        return await coordinator.receipt(deletion_id)

    return router


def _max_bytes(request: Request) -> int:
    names_ids = request.scope["path"].endswith(("/v1/deletions", "/v1/deletions/preview"))
    return MAX_DELETION_BYTES if names_ids else SMALL_BODY_BYTES
