"""The HTTP surface: FastAPI routes over one replica."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, FastAPI, Header, Query, Request, Response

from actors.requests import MAX_IDS
from lmeraser.config import ServingConfig
from lmeraser.deletion import Deletion
from lmeraser.errors import UnknownDeletionError
from lmeraser.ids import MAX_CHARACTERS
from serving.access import guarded_router
from serving.admission import Admission, most_requests
from serving.api_keys import ApiKeys
from serving.bodies import SMALL_BODY_BYTES, Bodies
from serving.coordinator_proxy import Coordinator
from serving.description import describe_problems
from serving.edge import Edge
from serving.page import page_router
from serving.problems import register_problems, request_id_of
from serving.request_body import REQUEST_BODY, asked_of, is_one_image
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
    from serving.replica import Forward, Replica

_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": Problem}}
# No JSON, a body that does not come to its end in time, one that is too long.
_BODY: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem},
    408: {"model": Problem},
    413: {"model": Problem},
    415: {"model": Problem},
}
# One of the longest always finds room beside others.
_BODIES_TOGETHER = 2
# So many ids of the greatest length in ASCII, with their quotes and commas.
_LONGEST_DELETION = MAX_IDS * (MAX_CHARACTERS + 4)
_NOT_READY: dict[int | str, dict[str, Any]] = {422: {"model": Problem}, 503: {"model": Problem}}


def create_app(
    replica: Replica, forward: Forward, coordinator: Coordinator, keys: ApiKeys, names_requests: bool = True
) -> FastAPI:
    """The HTTP surface over one replica.

    Args:
        replica: answers predictions.
        forward: passes images to it, in batches.
        coordinator: takes deletions.
        keys: who may call.
        names_requests: whether answers get the header X-Request-ID here; Serve's proxy adds it by itself.
    """
    app = FastAPI(
        title="LMEraser",
        summary="Machine unlearning as a running service",
        responses=_NOT_READY,
        # Relative to the document, so that it also holds under a path of a proxy.
        servers=[{"url": "."}],
        docs_url=None,
        redoc_url=None,
        # A body without a content type is what a page of others can send without asking.
        strict_content_type=True,
    )
    register_problems(app)
    longest = max(_longest_predict(replica.config), _LONGEST_DELETION)
    bodies = Bodies(most_requests(replica.config), _BODIES_TOGETHER * longest)
    app.add_middleware(Edge, bodies=bodies, names_requests=names_requests)
    app.include_router(_predicting(replica, forward, keys))
    app.include_router(_deleting(coordinator, guarded_router(keys, "delete", _most_of_deletion)))
    app.include_router(_looking(replica, guarded_router(keys, "admin")))
    app.include_router(_health(replica))
    app.include_router(page_router())
    describe_problems(app)
    return app


def _longest_predict(limits: ServingConfig) -> int:
    # Base64 makes four characters of three bytes, and a line break after 76 of them; the rest of the body is small.
    return 65536 + limits.max_batch_images * (limits.images.max_bytes * 7 // 5 + 256)


def _most_of_deletion(request: Request) -> int:
    return _LONGEST_DELETION if request.scope["path"].endswith("/v1/deletions") else SMALL_BODY_BYTES


def _predicting(replica: Replica, forward: Forward, keys: ApiKeys) -> APIRouter:
    limits = replica.config
    admission = Admission(most_requests(limits))

    def max_body_bytes(request: Request) -> int:
        return limits.images.max_bytes if is_one_image(request) else _longest_predict(limits)

    router = guarded_router(keys, "predict", max_body_bytes)

    @router.post(
        "/v1/predict",
        response_model=PredictAnswer,
        responses=_BODY,
        openapi_extra=REQUEST_BODY,
    )
    async def predict(request: Request) -> Response:
        """Predict one or many images: JSON with base64, multipart files named "images", or one image as the body."""
        # A place is held from here on only: a body that arrives slowly keeps nobody else from an answer.
        asked = await asked_of(request, limits.max_batch_images)
        with admission.taken():
            body = await replica.predict(asked.images, forward, request_id_of(request.scope), asked.specialist_weight)
        return Response(body, media_type="application/json")

    return router


def _deleting(coordinator: Coordinator, router: APIRouter) -> APIRouter:
    @router.post("/v1/deletions", status_code=202, responses=_BODY | {409: {"model": Problem}})
    async def delete(
        body: DeletionRequest,
        response: Response,
        idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
    ) -> Deletion:
        """Accept a deletion. The same key and body again get the same answer."""
        deletion = await coordinator.delete(body.with_key(idempotency_key))
        # Relative to /v1/deletions, so that it also holds under a path of a proxy.
        response.headers["Location"] = f"deletions/{deletion.id}"
        return deletion

    @router.get("/v1/deletions", responses=_NOT_FOUND)
    async def list_deletions(
        limit: Annotated[int, Query(ge=1, le=1000, description="How many at most.")] = 100,
        before: Annotated[str | None, Query(description="Those older than this one: `next` of a page.")] = None,
    ) -> DeletionsAnswer:
        """Deletions, newest first, a page at a time."""
        found = await coordinator.deletions()
        if before is not None:
            place = next((place for place, deletion in enumerate(found) if deletion.id == before), None)
            if place is None:
                raise UnknownDeletionError(f"there is no deletion {before!r}")
            found = found[:place]
        page = found[: -limit - 1 : -1]
        return DeletionsAnswer(deletions=page, next=page[-1].id if len(page) < len(found) else None)

    @router.get("/v1/deletions/{deletion_id}", responses=_NOT_FOUND)
    async def show_deletion(deletion_id: str) -> Deletion:
        """How far a deletion has come."""
        return await coordinator.deletion(deletion_id)

    @router.post("/v1/deletions/{deletion_id}/retry", status_code=202, responses=_NOT_FOUND)
    async def retry(deletion_id: str) -> Deletion:
        """Have the clusters of a failed deletion tuned again; 422 when it has not failed."""
        return await coordinator.retry(deletion_id)

    @router.get("/v1/deletions/{deletion_id}/receipt", responses=_NOT_FOUND)
    async def receipt(deletion_id: str) -> dict[str, Any]:
        """The signed statement that the rows were erased; 503 before they are."""
        return await coordinator.receipt(deletion_id)

    return router


def _looking(replica: Replica, router: APIRouter) -> APIRouter:
    @router.get("/v1/clusters")
    async def clusters() -> ClustersAnswer:
        """The prompt clusters of the newest commit."""
        commit = await asyncio.to_thread(replica.commit)
        return ClustersAnswer(
            commit=commit.number,
            clusters=[
                ClusterAnswer(
                    key=entry.key,
                    rows=entry.rows,
                    anchors=len(entry.anchors),
                    specialist=entry.specialist_object is not None,
                    state=entry.state(replica.tunes),
                )
                for entry in commit.clusters
            ],
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
            specialists=sum(entry.specialist_object is not None for entry in commit.clusters),
        )

    return router


def _health(replica: Replica) -> APIRouter:
    router = APIRouter()

    @router.get("/healthz")
    async def healthz() -> HealthAnswer:
        """200 while the process answers."""
        return HealthAnswer()

    @router.get("/readyz")
    async def readyz() -> ReadyAnswer:
        """200 while predictions can be answered."""
        snapshot = await asyncio.to_thread(replica.snapshot)
        return ReadyAnswer(commit=snapshot.commit.number)

    return router
