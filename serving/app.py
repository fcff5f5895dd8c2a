"""The Ray Serve application: the replicas that answer, and the supervision of the coordinator.

``serve run serving.app:build store=PATH [keys=FOLDER] [threads=2 …]``, ``lmeraser serve`` and KubeRay start the same
application. Torch is imported in replicas only.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve import Application, Deployment
from ray.serve.config import BackpressureConfig
from ray.serve.handle import DeploymentHandle

from actors.remote.placement import OTHERS_GPU_SHARE
from lmeraser.config import DeletionsConfig, OwnersConfig, ServingConfig
from lmeraser.config.validation import validated
from lmeraser.errors import ConfigError, LMEraserError
from lmeraser.garbage import lasting_imports
from lmeraser.log_level import set_log_level
from lmeraser.state.keys import default_folder
from lmeraser.state.manifest import load_manifest
from lmeraser.store import Store, open_store
from lmeraser.store.location import local_path
from lmeraser.store.observed import ObservedStore
from serving.api_keys import ApiKeys, read_api_keys
from serving.coordinator_proxy import CoordinatorProxy
from serving.http_routes import create_app
from serving.problems import RETRY_AFTER_S
from serving.supervision import CoordinatorSupervision

# The replica refuses excess requests itself, with problem documents; Serve, which answers in plain text, must let more
# through: one share for bodies that are arriving, one for predictions, one for everything else.
_SERVE_SHARES = 3
# Leaves room on two cores for the replica's successor and for owners.
_CPUS_PER_THREAD = 0.9
# So little that it fits everywhere but on a head that offers no CPU, whose end it has to outlive.
_SUPERVISION_CPUS = 0.001
SERVICE = "lmeraser"

# Keys of the deployment's ``user_config``, by which others see whose application this is.
STORE, STARTED_BY = "store", "started_by"


@serve.ingress()
class Service:
    """The deployment that answers: one replica and its HTTP routes."""

    def __init__(
        self,
        store: str,
        keys: str,
        keys_expected: bool,
        serving: dict[str, Any],
        supervision: DeploymentHandle,  # noqa: ARG002 (Serve runs what a deployment of the application refers to)
    ) -> None:
        with lasting_imports():
            import ray
            import torch

            from actors.remote.store_metrics import StoreMetrics
            from serving.metrics import ServingMetrics
            from serving.replica import Replica

        set_log_level()
        config = ServingConfig(**serving)
        torch.set_num_threads(config.threads)
        self._store_uri = store
        self._metrics = ServingMetrics()
        self._keys = ApiKeys(Path(keys), keys_expected)
        self._replica = Replica(
            ObservedStore(open_store(store), StoreMetrics("replica").observe),
            Path(keys),
            config,
            device="cuda" if ray.get_gpu_ids() else "cpu",
            on_batch=self._metrics.observe_batch,
        )

    def __serve_build_asgi_app__(self) -> FastAPI:
        coordinator = CoordinatorProxy(self._replica.store_id, self._store_uri)
        return create_app(self._replica, coordinator, self._keys, names_requests=False)

    def reconfigure(self, user_config: dict[str, str]) -> None:
        """Does nothing; Serve requires it of a deployment with a ``user_config``, which is there for others to read."""

    async def check_health(self) -> None:
        """Called by Serve at regular intervals; reports the age of the snapshot's lease."""
        try:
            snapshot = self._replica.snapshot()
        except LMEraserError:
            # A replica that is not ready needs no restart.
            return
        if (age_s := self._replica.lease_age_s(snapshot)) is not None:
            self._metrics.observe_lease(snapshot.commit.number, age_s)


def reserved(config: ServingConfig, on_gpu: bool) -> dict[str, float]:
    """The Ray resources of one replica.

    Raises:
        ConfigError: when it is to have a share of a GPU, but the store's backbone is on the CPU.
    """
    if config.gpus_per_replica is not None and not on_gpu:
        raise ConfigError(
            f"serving.gpus_per_replica is {config.gpus_per_replica:g}, but the store was made with backbone.device: "
            "cpu, so replicas use no GPU: leave it out"
        )
    gpus = config.gpus_per_replica or OTHERS_GPU_SHARE if on_gpu else 0
    return {"num_cpus": _CPUS_PER_THREAD * config.threads, "num_gpus": gpus}


def _replicas(config: ServingConfig) -> dict[str, Any]:
    """What Serve is given on the number of replicas."""
    if config.autoscaling is None:
        return {"num_replicas": config.replicas}
    return {"autoscaling_config": asdict(config.autoscaling)}


def build(args: dict[str, Any]) -> Application:
    """The Serve application.

    Args:
        args: ``store``; ``keys``, the key folder (default folder when absent); ``owners``, the fields of OwnersConfig;
            ``deletions``, the fields of DeletionsConfig; and any field of ServingConfig.

    Raises:
        ConfigError: when an argument is unknown or outside its range.
        StoreError: when the URI is invalid or there is no store.
        KeysError: when the file of API keys cannot be used.
    """
    return application(args, "")


def application(args: dict[str, Any], started_by: str) -> Application:
    """Like :func:`build`; ``started_by`` is the id of the Ray job that starts it."""
    settings = dict(args)
    store = open_store(str(settings.pop("store", "")))
    key_folder = settings.pop("keys", None)
    keys = local_path(key_folder) if key_folder else default_folder()
    owners = validated(OwnersConfig, settings.pop("owners", {}), "owners")
    deletions = validated(DeletionsConfig, settings.pop("deletions", {}), "deletions")
    config = validated(ServingConfig, settings, "serving")
    supervision = serve.deployment(
        name="supervision",
        health_check_period_s=2.0,
        max_surge_percent=100,
        ray_actor_options={"num_cpus": _SUPERVISION_CPUS},
    )(CoordinatorSupervision)
    # A replica that starts after the file was lost must not take that for a service without keys.
    keys_expected = bool(read_api_keys(keys))
    bound: Application = _service(config, store, started_by).bind(
        store.uri,
        str(keys),
        keys_expected,
        asdict(config),
        supervision.bind(store.uri, str(keys), asdict(owners), asdict(deletions), SERVICE),
    )
    return bound


def _service(config: ServingConfig, store: Store, started_by: str) -> Deployment:
    ongoing = _SERVE_SHARES * config.max_requests
    return serve.deployment(
        name=SERVICE,
        **_replicas(config),
        max_ongoing_requests=ongoing,
        max_queued_requests=ongoing * config.max_replicas,
        backpressure_config=BackpressureConfig(status_code=503, retry_after_s=RETRY_AFTER_S),
        health_check_period_s=2.0,
        # A new replica is ready before an old one is stopped.
        max_surge_percent=100,
        ray_actor_options=reserved(config, on_gpu=load_manifest(store).config.backbone.device == "cuda"),
        user_config={STORE: store.uri, STARTED_BY: started_by},
    )(Service)
