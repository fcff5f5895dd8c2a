"""The HTTP surface: FastAPI routes over one replica."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, FastAPI, Header, Query, Request, Response

from actors.requests import MAX_IDS
from lmeraser.config import ServingConfig
from lmeraser.deletion import Deletion, Status
from lmeraser.ids import MAX_CHARACTERS
from lmeraser.paging import DEFAULT_LIMIT, MAX_LIMIT
from lmeraser.state.cluster_pages import cluster_page
from serving.access import guarded_router
from serving.admission import Admission
from serving.api_keys import ApiKeys
from serving.bodies import SMALL_BODY_BYTES, Bodies
from serving.coordinator_proxy import Coordinator
from serving.middleware import RequestMiddleware
from serving.page import page_router
from serving.problems import register_problems, request_id_of
from serving.request_body import REQUEST_BODY, is_one_image, read_predict_input
from serving.schemas import (
    ClusterAnswer,
    ClustersAnswer,
    CommitAnswer,
    DeletionRequest,
    DeletionsAnswer,
    HealthAnswer,
    PredictAnswer,
    Problem,
    ReadyAnswer,
)

if TYPE_CHECKING:
    from serving.replica import Replica

logger = logging.getLogger(__name__)

_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": Problem}}
# Not JSON, not in time, too long, of an unsupported type.
_BODY: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem},
    408: {"model": Problem},
    413: {"model": Problem},
    415: {"model": Problem},
}
# Room for bodies, in the largest allowed size: one such body always fits next to smaller ones.
_MAX_BODIES = 2
# The most ids, each of the greatest length in ASCII, with quotes and commas.
_MAX_DELETION_BYTES = MAX_IDS * (MAX_CHARACTERS + 4)
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Most items on the page.")]
NextCursor = Annotated[str | None, Query(description="`next_cursor` of the previous page; absent for the first one.")]
_NOT_READY: dict[int | str, dict[str, Any]] = {422: {"model": Problem}, 503: {"model": Problem}}


def create_app(replica: Replica, coordinator: Coordinator, keys: ApiKeys, names_requests: bool = True) -> FastAPI:
    """The HTTP surface over one replica.

    Args:
        replica: answers predictions.
        coordinator: accepts deletions.
        keys: who may call.
        names_requests: whether to add the header X-Request-ID to answers; Ray Serve's proxy adds it itself.
    """
    app = FastAPI(
        title="LMEraser",
        summary="Machine unlearning as a running service",
        responses=_NOT_READY,
        # Relative to the document, so that it is also right behind a proxy with a path prefix.
        servers=[{"url": "."}],
        docs_url=None,
        redoc_url=None,
        # A foreign web page can send a body without a content type without a preflight request.
        strict_content_type=True,
    )
    register_problems(app)
    max_body_bytes = max(_max_predict_bytes(replica.config), _MAX_DELETION_BYTES)
    bodies = Bodies(replica.config.max_requests, _MAX_BODIES * max_body_bytes)
    app.add_middleware(RequestMiddleware, bodies=bodies, names_requests=names_requests)
    app.include_router(_predict_routes(replica, keys))
    app.include_router(_deletion_routes(coordinator, guarded_router(keys, "delete", _max_deletion_bytes)))
    app.include_router(_state_routes(replica, guarded_router(keys, "admin")))
    app.include_router(_health_routes(replica))
    app.include_router(page_router())
    return app


def _max_predict_bytes(limits: ServingConfig) -> int:
    # Base64 turns three bytes into four characters, with a line break after every 76; the rest of the body is small.
    return 65536 + limits.max_batch_images * (limits.images.max_bytes * 7 // 5 + 256)


def _max_deletion_bytes(request: Request) -> int:
    return _MAX_DELETION_BYTES if request.scope["path"].endswith("/v1/deletions") else SMALL_BODY_BYTES


def _predict_routes(replica: Replica, keys: ApiKeys) -> APIRouter:
    limits = replica.config
    admission = Admission(limits.max_requests)

    def max_body_bytes(request: Request) -> int:
        return limits.images.max_bytes if is_one_image(request) else _max_predict_bytes(limits)

    router = guarded_router(keys, "predict", max_body_bytes)

    @router.post(
        "/v1/predict",
        response_model=PredictAnswer,
        responses=_BODY,
        openapi_extra=REQUEST_BODY,
    )
    async def predict(request: Request) -> Response:
        """Predict one or more images: JSON with base64, multipart files named "images", or one raw image as body."""
        predict_input = await read_predict_input(request, limits.max_batch_images)
        # The slot is taken only now, so that bodies that arrive slowly occupy none.
        with admission.slot():
            body = await replica.predict(
                predict_input.images, request_id_of(request.scope), predict_input.specialist_weight
            )
        return Response(body, media_type="application/json")

    return router


def _deletion_routes(coordinator: Coordinator, router: APIRouter) -> APIRouter:
    @router.post("/v1/deletions", status_code=202, responses=_BODY | {409: {"model": Problem}})
    async def delete(
        body: DeletionRequest,
        request: Request,
        response: Response,
        idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
    ) -> Deletion:
        """Request a deletion. A repeated request with the same idempotency key and body returns the same deletion."""
        deletion = await coordinator.delete(body.with_key(idempotency_key))
        logger.info("request %s: deletion %s is accepted", request_id_of(request.scope), deletion.id)
        # Relative to /v1/deletions, so that it is also right behind a proxy with a path prefix.
        response.headers["Location"] = f"deletions/{deletion.id}"
        return deletion

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

    @router.get("/v1/deletions/{deletion_id}", responses=_NOT_FOUND)
    async def show_deletion(deletion_id: str) -> Deletion:
        """One deletion with its current status."""
        return await coordinator.deletion(deletion_id)

    @router.post("/v1/deletions/{deletion_id}/retry", status_code=202, responses=_NOT_FOUND)
    async def retry(deletion_id: str) -> Deletion:
        """Have the clusters of a failed deletion tuned again; 422 if it has not failed."""
        return await coordinator.retry(deletion_id)

    @router.get("/v1/deletions/{deletion_id}/receipt", responses=_NOT_FOUND)
    async def receipt(deletion_id: str) -> dict[str, Any]:
        """The signed statement that the rows were erased; 503 while they are not."""
        return await coordinator.receipt(deletion_id)

    return router


def _state_routes(replica: Replica, router: APIRouter) -> APIRouter:
    @router.get("/v1/clusters")
    async def clusters(limit: Limit = DEFAULT_LIMIT, cursor: NextCursor = None) -> ClustersAnswer:
        """List the prompt clusters of the newest commit, largest first, one page at a time.

        Pages may be of different commits. A cluster that gains or loses rows meanwhile may be left out or come twice.
        """
        commit = await asyncio.to_thread(replica.commit)
        page = cluster_page(commit.clusters, limit, cursor)
        return ClustersAnswer(
            commit=commit.number,
            clusters=[
                ClusterAnswer(
                    key=entry.key,
                    rows=entry.rows,
                    anchors=len(entry.anchors),
                    specialist=entry.prompt_object is not None,
                    state=entry.state(replica.tunes),
                )
                for entry in page.items
            ],
            next_cursor=page.next_cursor,
        )

    @router.get("/v1/commit")
    async def newest_commit() -> CommitAnswer:
        """The newest commit."""
        commit = await asyncio.to_thread(replica.commit)
        return CommitAnswer(
            number=commit.number,
            root=commit.root,
            rows=commit.rows,
            clusters=len(commit.clusters),
            specialists=sum(entry.prompt_object is not None for entry in commit.clusters),
        )

    return router


def _health_routes(replica: Replica) -> APIRouter:
    router = APIRouter()

    @router.get("/healthz")
    async def healthz() -> HealthAnswer:
        """200 while the process is running."""
        return HealthAnswer()

    @router.get("/readyz")
    async def readyz() -> ReadyAnswer:
        """200 while predictions can be answered."""
        snapshot = await asyncio.to_thread(replica.snapshot)
        return ReadyAnswer(commit=snapshot.commit.number)

    return router
