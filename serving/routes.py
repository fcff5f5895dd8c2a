"""The HTTP surface: FastAPI routes over one replica."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, FastAPI, Header, Request, Response

from lmeraser.api_keys import ApiKeys
from lmeraser.deletion import Deletion
from serving.access import guarded_router
from serving.admission import Admission, most_requests
from serving.description import describe_problems
from serving.intake import REQUEST_BODY, asked_of
from serving.page import page_router
from serving.problems import register_problems, request_id_of
from serving.registrar import Registrar
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
_BODY: dict[int | str, dict[str, Any]] = {400: {"model": Problem}, 408: {"model": Problem}, 413: {"model": Problem}}
_NOT_READY: dict[int | str, dict[str, Any]] = {422: {"model": Problem}, 503: {"model": Problem}}


def create_app(replica: Replica, forward: Forward, registrar: Registrar, keys: ApiKeys) -> FastAPI:
    """The HTTP surface over one replica."""
    app = FastAPI(title="LMEraser", summary="Machine unlearning as a running service", responses=_NOT_READY)
    limits = replica.config
    # Base64 makes four characters of three bytes; the rest of the body is small.
    register_problems(app, max_body_bytes=65536 + limits.max_batch_images * (limits.images.max_bytes * 4 // 3 + 256))
    app.include_router(_predicting(replica, forward, guarded_router(keys, "predict")))
    app.include_router(_deleting(registrar, guarded_router(keys, "delete")))
    app.include_router(_looking(replica, guarded_router(keys, "admin")))
    app.include_router(_health(replica))
    app.include_router(page_router())
    describe_problems(app)
    return app


def _predicting(replica: Replica, forward: Forward, router: APIRouter) -> APIRouter:
    admission = Admission(most_requests(replica.config))

    @router.post(
        "/v1/predict",
        response_model=PredictAnswer,
        responses=_BODY | {415: {"model": Problem}},
        openapi_extra=REQUEST_BODY,
    )
    async def predict(request: Request) -> Response:
        """Predict one or many images: JSON with base64, multipart files named "images", or one image as the body."""
        with admission.taken():
            asked = await asked_of(request, replica.config.max_batch_images)
            body = await replica.predict(asked.images, forward, request_id_of(request.scope), asked.specialist_weight)
        return Response(body, media_type="application/json")

    return router


def _deleting(registrar: Registrar, router: APIRouter) -> APIRouter:
    @router.post("/v1/deletions", status_code=202, responses=_BODY | {409: {"model": Problem}})
    async def delete(
        body: DeletionRequest,
        request: Request,
        response: Response,
        idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
    ) -> Deletion:
        """Accept a deletion. The same key and body again get the same answer."""
        deletion = await registrar.delete(
            body.sample_ids,
            body.subject_ids,
            idempotency_key,
            body.deadline.isoformat() if body.deadline is not None else None,
        )
        response.headers["Location"] = request.url_for("show_deletion", deletion_id=deletion.id).path
        return deletion

    @router.get("/v1/deletions")
    async def list_deletions() -> DeletionsAnswer:
        """All deletions, oldest first."""
        return DeletionsAnswer(deletions=await registrar.deletions())

    @router.get("/v1/deletions/{deletion_id}", responses=_NOT_FOUND)
    async def show_deletion(deletion_id: str) -> Deletion:
        """How far a deletion has come."""
        return await registrar.deletion(deletion_id)

    @router.post("/v1/deletions/{deletion_id}/retry", status_code=202, responses=_NOT_FOUND)
    async def retry(deletion_id: str) -> Deletion:
        """Have the clusters of a failed deletion tuned again; 422 when it has not failed."""
        return await registrar.retry(deletion_id)

    @router.get("/v1/deletions/{deletion_id}/receipt", responses=_NOT_FOUND)
    async def receipt(deletion_id: str) -> dict[str, Any]:
        """The signed statement that the rows were erased; 503 before they are."""
        return await registrar.receipt(deletion_id)

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
                    state=entry.state(replica.min_tuned_rows),
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
        bank = await asyncio.to_thread(replica.bank)
        return ReadyAnswer(commit=bank.commit.number)

    return router
