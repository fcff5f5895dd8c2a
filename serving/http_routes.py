"""The HTTP surface: FastAPI routes over one replica."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, FastAPI, Request, Response

from lmeraser.config import ServingConfig
from lmeraser.paging import DEFAULT_LIMIT
from lmeraser.state.cluster_pages import cluster_page
from serving.access import guarded_router
from serving.admission import Admission
from serving.api_keys import ApiKeys
from serving.bodies import Bodies
from serving.coordinator_proxy import Coordinator
from serving.deletion_routes import MAX_DELETION_BYTES, deletion_routes
from serving.middleware import RequestMiddleware
from serving.page import page_router
from serving.problems import register_problems, request_id_of
from serving.request_body import REQUEST_BODY, is_one_image, read_predict_input
from serving.responses import BODY_PROBLEMS, Limit, NextCursor
from serving.schemas import (
    ClusterAnswer,
    ClustersAnswer,
    CommitAnswer,
    HealthAnswer,
    PredictAnswer,
    Problem,
    ReadyAnswer,
)
from serving.table_routes import table_routes

if TYPE_CHECKING:
    from serving.replica import Replica

# Room for bodies, in the largest allowed size: one such body always fits next to smaller ones.
_MAX_BODIES = 2
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
    max_body_bytes = max(_max_predict_bytes(replica.config), MAX_DELETION_BYTES)
    bodies = Bodies(replica.config.max_requests, _MAX_BODIES * max_body_bytes)
    app.add_middleware(RequestMiddleware, bodies=bodies, names_requests=names_requests)
    app.include_router(_predict_routes(replica, keys))
    app.include_router(deletion_routes(coordinator, keys))
    app.include_router(table_routes(coordinator, keys))
    app.include_router(_state_routes(replica, guarded_router(keys, "read")))
    app.include_router(_health_routes(replica))
    app.include_router(page_router())
    return app


def _max_predict_bytes(limits: ServingConfig) -> int:
    # Base64 turns three bytes into four characters, with a line break after every 76; the rest of the body is small.
    return 65536 + limits.max_batch_images * (limits.images.max_bytes * 7 // 5 + 256)


def _predict_routes(replica: Replica, keys: ApiKeys) -> APIRouter:
    limits = replica.config
    admission = Admission(limits.max_requests)

    def max_body_bytes(request: Request) -> int:
        return limits.images.max_bytes if is_one_image(request) else _max_predict_bytes(limits)

    router = guarded_router(keys, "predict", max_body_bytes)

    @router.post(
        "/v1/predict",
        response_model=PredictAnswer,
        responses=BODY_PROBLEMS,
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
