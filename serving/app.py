"""The Ray Serve application.

``serve run serving.app:build store=PATH [keys=FOLDER] [threads=2 …]``, ``lmeraser serve`` and KubeRay bring up
the same application. Torch is imported in replicas only.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from ray import serve
from ray.serve import Application
from ray.serve.config import BackpressureConfig

from actors.remote.placement import OTHERS_GPU_SHARE
from lmeraser.config import ServingConfig
from lmeraser.config.validation import validated
from lmeraser.errors import LMEraserError
from lmeraser.state.keys import default_folder
from lmeraser.state.manifest import load_manifest
from lmeraser.store import open_store
from lmeraser.store.location import local_path
from serving.admission import most_requests
from serving.api_keys import ApiKeys, read_api_keys
from serving.batcher import Batcher
from serving.coordinator_proxy import CoordinatorProxy
from serving.http_routes import create_app
from serving.problems import RETRY_AFTER_S

if TYPE_CHECKING:
    from serving.predictor import ScoreRequest, Scores

# The replica turns away what is too much with a problem document; Serve, with plain text, only what is far beyond.
# So many bodies may be arriving, so many predictions under way, and the rest is room for all else.
_SERVE_TAKES = 3
# Leaves room on two cores for its successor and the owners beside it.
_PART_OF_CORE = 0.9


# What Serve tells of the application to others, so that none takes it for its own.
STORE, STARTED_BY = "store", "started_by"


@serve.ingress()
class Service:
    """The deployment: one replica, its batches, its routes."""

    def __init__(self, store: str, keys: str, keys_expected: bool, serving: dict[str, Any]) -> None:
        import ray
        import torch

        from serving.metrics import ServingMetrics
        from serving.replica import Replica

        config = ServingConfig(**serving)
        torch.set_num_threads(config.threads)
        self._store_uri = store
        self._metrics = ServingMetrics()
        self._keys = ApiKeys(Path(keys), keys_expected)
        self._replica = Replica(open_store(store), Path(keys), config, "cuda" if ray.get_gpu_ids() else "cpu")
        self._batching = Batcher(self._score, config.max_batch_images)

    def __serve_build_asgi_app__(self) -> FastAPI:
        coordinator = CoordinatorProxy(self._replica.store_id, self._store_uri)
        return create_app(self._replica, self._batching, coordinator, self._keys, names_requests=False)

    def reconfigure(self, told: dict[str, str]) -> None:
        """Serve demands it of what has a ``user_config``; here that is for others to read."""

    async def check_health(self) -> None:
        """Ray asks regularly; what is reported is how old the snapshot is that answers."""
        try:
            snapshot = self._replica.snapshot()
        except LMEraserError:
            # Not being ready is no reason to be restarted.
            return
        if (age_s := self._replica.lease_age_s(snapshot)) is not None:
            self._metrics.seen(snapshot.commit.number, age_s)

    def _score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
        begun = time.perf_counter()
        scored = self._replica.score(requests)
        self._metrics.scored(scored, time.perf_counter() - begun)
        return scored


def reserved(config: ServingConfig, on_gpu: bool) -> dict[str, float]:
    """What Ray reserves for one replica."""
    return {"num_cpus": _PART_OF_CORE * config.threads, "num_gpus": OTHERS_GPU_SHARE if on_gpu else 0}


def build(args: dict[str, Any]) -> Application:
    """The Serve application.

    Args:
        args: ``store``; ``keys``, the key folder (the default one when absent); and any field of ServingConfig.

    Raises:
        ConfigError: when an argument is unknown or outside its range.
        StoreError: when the URI cannot be used or names no store.
        KeysError: when the file of API keys cannot be used.
    """
    return application(args, "")


def application(args: dict[str, Any], started_by: str) -> Application:
    """As :func:`build`, with the Ray job that starts it."""
    settings = dict(args)
    store = open_store(str(settings.pop("store", "")))
    given = settings.pop("keys", None)
    keys = local_path(given) if given else default_folder()
    config = validated(ServingConfig, settings, "serving")
    on_gpu = load_manifest(store).config.backbone.device == "cuda"
    ongoing = _SERVE_TAKES * most_requests(config)
    deployment = serve.deployment(
        name="lmeraser",
        num_replicas=config.replicas,
        max_ongoing_requests=ongoing,
        max_queued_requests=ongoing * config.replicas,
        backpressure_config=BackpressureConfig(status_code=503, retry_after_s=RETRY_AFTER_S),
        health_check_period_s=2.0,
        # A new replica is ready before an old one ends.
        max_surge_percent=100,
        ray_actor_options=reserved(config, on_gpu),
        user_config={STORE: store.uri, STARTED_BY: started_by},
    )(Service)
    # A replica that starts when the file is gone must not take that for a service without keys.
    keys_expected = bool(read_api_keys(keys))
    bound: Application = deployment.bind(store.uri, str(keys), keys_expected, asdict(config))
    return bound
