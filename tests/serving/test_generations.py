"""Replicas whose store switches to another generation."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from rebuilding import Rebuild, artifacts_of
from small_system import System, finish, picture
from until import until

from lmeraser.config import ServingConfig, StateConfig
from lmeraser.state.public_artifacts import create_draft
from serving.generations import Generations, LoadedGeneration
from serving.predictor import ScoreRequest
from serving.replica import Replica

SystemOf = Callable[..., System]
PICTURES = [picture(number) for number in range(300, 308)]


def with_smaller_images(config: StateConfig) -> StateConfig:
    return replace(config, backbone=replace(config.backbone, image_px=32))


def rebuild(system: System) -> None:
    coordinator = system.coordinator()
    changed = Rebuild(system, with_smaller_images(system.manifest.config))
    changed.begin(coordinator)
    finish(changed.finish(coordinator))


def answers(replica: Replica) -> Any:
    return json.loads(asyncio.run(replica.predict(PICTURES, "request")))


@pytest.mark.slow
def test_a_replica_follows_a_switch(system_of: SystemOf) -> None:
    system = system_of("minute", 60)
    replica = Replica(system.store, system.keys, ServingConfig())
    assert answers(replica)["commit"] == system.newest().number
    rebuild(system)
    until(lambda: replica.snapshot().commit.number == system.newest().number or None, 30)
    fresh = Replica(system.store, system.keys, ServingConfig())
    assert answers(replica) == answers(fresh)
    assert answers(fresh)["commit"] == system.newest().number
    for each in (replica, fresh):
        each.close()


@pytest.mark.slow
def test_until_the_snapshot_is_replaced_its_own_generation_answers(
    system_of: SystemOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = system_of("minute", 60)
    replica = Replica(system.store, system.keys, ServingConfig())
    before = replica.snapshot().commit
    request = ScoreRequest(system.pipeline().decode(PICTURES))
    (expected,) = replica.score([request])
    followed, released = threading.Event(), threading.Event()
    follow = Generations.follow

    def slowly(generations: Generations, loaded: LoadedGeneration) -> None:
        follow(generations, loaded)
        if loaded.manifest.generation:
            followed.set()
            released.wait(60)

    monkeypatch.setattr(Generations, "follow", slowly)
    with ThreadPoolExecutor(1) as background:
        rebuilt = background.submit(rebuild, system)
        assert followed.wait(60)
        rebuilt.result()
        (scores,) = replica.score([request])
        released.set()
    assert scores is not None and expected is not None
    assert scores.commit.number == before.number
    assert np.array_equal(scores.shared_NC, expected.shared_NC)
    until(lambda: replica.snapshot().commit.generation == system.manifest.generation or None, 30)
    assert replica.score([request]) == [None]
    replica.close()


def test_a_draft_is_forgotten_for_the_next_one(system_of: SystemOf) -> None:
    system = system_of("minute", 60)
    config = with_smaller_images(system.manifest.config)
    artifacts = artifacts_of(system, config)
    for generation in ("one", "two"):
        create_draft(system.store, generation, config, artifacts, {})
    generations = Generations(system.store, ServingConfig(), "cpu")
    first = weakref.ref(generations.of("one").predictor)
    assert first() is generations.of("one").predictor
    assert generations.of("two").manifest.config == config
    gc.collect()
    assert first() is None
    assert generations.of("") is generations.live
