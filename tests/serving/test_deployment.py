"""What Ray Serve is asked for: how many replicas, and with which resources."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from small_system import System

from lmeraser.errors import ConfigError
from lmeraser.state import manifest
from serving.app import build

SystemOf = Callable[..., System]
SCALING = {"min_replicas": 2, "max_replicas": 5, "target_ongoing_requests": 8.0}


@pytest.fixture
def system(system_of: SystemOf) -> System:
    return system_of("minute", 0)


def deployment(system: System, **serving: Any) -> Any:
    return build({"store": system.store.uri, "keys": str(system.keys), **serving})._bound_deployment


def on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every store say that its backbone is on a GPU."""

    def load(store: Any) -> manifest.Manifest:
        loaded = manifest.load_manifest(store)
        backbone = dataclasses.replace(loaded.config.backbone, device="cuda")
        return dataclasses.replace(loaded, config=dataclasses.replace(loaded.config, backbone=backbone))

    monkeypatch.setattr("serving.app.load_manifest", load)


def test_without_autoscaling_serve_keeps_the_number_of_replicas(system: System) -> None:
    asked = deployment(system, replicas=3)._deployment_config
    assert (asked.num_replicas, asked.autoscaling_config) == (3, None)


def test_with_autoscaling_serve_receives_its_bounds_and_target(system: System) -> None:
    bound = deployment(system, autoscaling=SCALING)
    asked = bound._deployment_config.autoscaling_config
    assert {name: getattr(asked, name) for name in SCALING} == SCALING
    # Requests wait for the replicas that Serve may add.
    alone = deployment(system)._deployment_config
    assert bound._deployment_config.max_queued_requests == 5 * alone.max_queued_requests


def test_a_target_that_no_replica_reaches_is_refused(system: System) -> None:
    # Six batches of eight images, and 48 requests with a single one.
    with pytest.raises(ConfigError, match=r"target_ongoing_requests is 97, .* takes on at most 96 requests"):
        deployment(system, max_batch_images=8, autoscaling={**SCALING, "target_ongoing_requests": 97})
    deployment(system, max_batch_images=8, autoscaling={**SCALING, "target_ongoing_requests": 96})


def test_a_replica_reserves_its_share_of_a_gpu(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    on_gpu(monkeypatch)
    assert deployment(system, gpus_per_replica=0.5).ray_actor_options["num_gpus"] == 0.5
    assert deployment(system).ray_actor_options["num_gpus"] == 0.1


def test_a_share_of_a_gpu_is_refused_where_the_backbone_is_on_the_cpu(system: System) -> None:
    with pytest.raises(
        ConfigError, match=r"gpus_per_replica is 0\.5, but the store was made with backbone\.device: cpu"
    ):
        deployment(system, gpus_per_replica=0.5)
    assert deployment(system).ray_actor_options["num_gpus"] == 0
