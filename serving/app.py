"""The service: FastAPI routes over a replica, and the Ray Serve application.

``serve run serving.app:build store=PATH [keys=FOLDER] [lease_s=0.4 …]``, ``lmeraser serve`` and KubeRay bring up
the same application. Torch is imported in replicas only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, Header, Request, Response
from pydantic import TypeAdapter, ValidationError
from ray import serve
from ray.serve import Application

from lmeraser.config import ServingConfig
from lmeraser.deletion import Deletion
from lmeraser.errors import ConfigError, LMEraserError
from lmeraser.keys import default_folder
from lmeraser.manifest import load_manifest
from lmeraser.store import open_store
from serving.intake import REQUEST_BODY, asked_of
from serving.problems import register_problems, request_id_of
from serving.registrar import NamedRegistrar, Registrar
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
    import numpy as np

    from serving.predictor import Scored
    from serving.replica import Forward, Replica

# A request that waits for its batch counts as ongoing, so twice the batch keeps the next one filled.
_ONGOING_PER_BATCH_IMAGE = 2
# A replica shares its GPU with owners that tune.
_GPU_SHARE = 0.1
_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": Problem}}
_NOT_READY: dict[int | str, dict[str, Any]] = {422: {"model": Problem}, 503: {"model": Problem}}


def create_app(replica: Replica, forward: Forward, registrar: Registrar) -> FastAPI:
    """The HTTP surface over one replica."""
    app = FastAPI(title="LMEraser", summary="Machine unlearning as a running service", responses=_NOT_READY)
    limits = replica.config
    # Base64 makes four characters of three bytes; the rest of the body is small.
    register_problems(app, max_body_bytes=65536 + limits.max_batch_images * (limits.max_image_bytes * 4 // 3 + 256))

    @app.post(
        "/v1/predict",
        response_model=PredictAnswer,
        responses={413: {"model": Problem}, 415: {"model": Problem}},
        openapi_extra=REQUEST_BODY,
    )
    async def predict(request: Request) -> Response:
        """Predict one or many images: JSON with base64, multipart files named "images", or one image as the body."""
        asked = await asked_of(request, limits.max_batch_images)
        body = await replica.predict(asked.images, forward, request_id_of(request.scope), asked.specialist_weight)
        return Response(body, media_type="application/json")

    @app.post("/v1/deletions", status_code=202, responses={409: {"model": Problem}})
    async def delete(
        body: DeletionRequest,
        request: Request,
        response: Response,
        idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
    ) -> Deletion:
        """Accept a deletion. The same key and body again get the same answer."""
        deletion = await registrar.delete(body.sample_ids, body.subject_ids, idempotency_key)
        response.headers["Location"] = request.url_for("show_deletion", deletion_id=deletion.id).path
        return deletion

    @app.get("/v1/deletions")
    async def list_deletions() -> DeletionsAnswer:
        """All deletions, oldest first."""
        return DeletionsAnswer(deletions=await registrar.deletions())

    @app.get("/v1/deletions/{deletion_id}", responses=_NOT_FOUND)
    async def show_deletion(deletion_id: str) -> Deletion:
        """How far a deletion has come."""
        return await registrar.deletion(deletion_id)

    @app.get("/v1/deletions/{deletion_id}/receipt", responses=_NOT_FOUND)
    async def receipt(deletion_id: str) -> dict[str, Any]:
        """The signed statement that the rows were erased; 503 before they are."""
        return await registrar.receipt(deletion_id)

    @app.get("/v1/clusters")
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
                )
                for entry in commit.clusters
            ],
        )

    @app.get("/v1/commit")
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

    @app.get("/healthz")
    async def healthz() -> HealthAnswer:
        """200 while the process answers."""
        return HealthAnswer()

    @app.get("/readyz")
    async def readyz() -> ReadyAnswer:
        """200 while predictions can be answered."""
        bank = await asyncio.to_thread(replica.bank)
        return ReadyAnswer(commit=bank.commit.number)

    return app


@serve.ingress()
class Service:
    """The deployment: one replica, its batches, its routes."""

    def __init__(self, store: str, keys: str, serving: dict[str, Any]) -> None:
        import ray
        import torch

        from serving.replica import Replica

        config = ServingConfig(**serving)
        torch.set_num_threads(config.threads)
        self._replica = Replica(open_store(store), Path(keys), config, "cuda" if ray.get_gpu_ids() else "cpu")
        # One request never holds more images than that, so it always fits.
        self._batched.set_max_batch_size(config.max_batch_images)

    def __serve_build_asgi_app__(self) -> FastAPI:
        return create_app(self._replica, self._batched, NamedRegistrar(self._replica.store_id))

    async def check_health(self) -> None:
        """Ray asks regularly: an idle replica lets go of an old bank, and has the new one ready."""
        try:
            await asyncio.to_thread(self._replica.bank)
        except LMEraserError:
            # Not being ready is no reason to be restarted.
            return

    @serve.batch(batch_wait_timeout_s=0.0, batch_size_fn=lambda requests: sum(map(len, requests)))
    async def _batched(self, requests: Sequence[np.ndarray]) -> list[Scored]:
        return await asyncio.to_thread(self._replica.score, requests)


def build(args: dict[str, Any]) -> Application:
    """The Serve application.

    Args:
        args: ``store``; ``keys``, the key folder (the default one when absent); and any field of ServingConfig.

    Raises:
        ConfigError: when an argument is unknown or outside its range.
        StoreError: when the URI cannot be used or names no store.
    """
    settings = dict(args)
    store = open_store(str(settings.pop("store", "")))
    keys = Path(settings.pop("keys", None) or default_folder()).absolute()
    try:
        config = TypeAdapter(ServingConfig).validate_python(settings)
    except ValidationError as error:
        raise ConfigError(
            "; ".join(f"serving.{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        ) from error
    on_gpu = load_manifest(store).method.backbone.device == "cuda"
    deployment = serve.deployment(
        name="lmeraser",
        num_replicas=config.replicas,
        max_ongoing_requests=_ONGOING_PER_BATCH_IMAGE * config.max_batch_images + 16,
        health_check_period_s=2.0,
        ray_actor_options={"num_cpus": config.threads, "num_gpus": _GPU_SHARE if on_gpu else 0},
    )(Service)
    application: Application = deployment.bind(store.uri, str(keys), asdict(config))
    return application
