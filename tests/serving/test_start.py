"""What a replica has done before it is ready, and that it ends with its last user."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch._dynamo.utils
from small_system import System, picture
from torch import nn
from until import until

from lmeraser.config import ServingConfig
from lmeraser.state.pipeline import Pipeline
from lmeraser.state.pipeline_loading import open_pipeline
from lmeraser.store import LocalStore
from serving import generations as generations_module
from serving.predictor import ScoreRequest
from serving.replica import Replica
from serving.snapshot import load_snapshot

SystemOf = Callable[..., System]


def test_prompts_are_read_in_parallel(system_of: SystemOf) -> None:
    system = system_of()
    commit = system.newest()
    prompts = [entry.prompt_object for entry in commit.clusters if entry.prompt_object is not None]
    assert len(prompts) > 1
    barrier = threading.Barrier(len(prompts))

    class ParallelStore(LocalStore):
        def get(self, name: str) -> bytes:
            if name in prompts:
                barrier.wait(30)
            return super().get(name)

    first = load_snapshot(ParallelStore(Path(system.store.uri)), system.pipeline(), commit, system.hash_key)
    again = load_snapshot(system.store, system.pipeline(), commit, system.hash_key, first)
    assert list(first.prompt_objects) == list(again.prompt_objects) == prompts
    assert np.array_equal(first.prompts_K.cpu().numpy(), again.prompts_K.cpu().numpy())


@pytest.mark.slow
def test_a_ready_replica_has_compiled_everything_that_requests_need(system_of: SystemOf) -> None:
    system = system_of()
    replica = Replica(system.store, system.keys, ServingConfig(compile=True))
    images_N3PP = system.pipeline().decode([picture(number) for number in range(300, 316)])
    compiled = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert compiled > 0
    specialists = set()
    for images in (16, 5, 2, 1):
        (scores,) = replica.score([ScoreRequest(images_N3PP[-images:], specialist_weight=0.5)])
        assert scores is not None
        specialists.add(int(scores.specialist_N.sum()))
    assert len(specialists) == 4 and 1 in specialists
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == compiled


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["token", "minute", "conv"])
def test_no_request_meets_a_shape_or_a_thread_that_the_warm_up_has_not(
    system_of: SystemOf, monkeypatch: pytest.MonkeyPatch, variant: str
) -> None:
    system = system_of(variant)
    passed: set[tuple[str, str, tuple[int, ...]]] = set()

    def watched(*arguments: Any) -> Pipeline:
        pipeline = open_pipeline(*arguments)
        for name, module in pipeline.backbone.model.named_modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                module.register_forward_hook(
                    lambda _, inputs, __, name=name: passed.add(
                        (threading.current_thread().name, name, tuple(inputs[0].shape))
                    )
                )
        return pipeline

    monkeypatch.setattr(generations_module, "open_pipeline", watched)
    replica = Replica(system.store, system.keys, ServingConfig())
    warm = set(passed)
    assert warm
    images_N3PP = system.pipeline().decode([picture(number) for number in range(300, 320)])

    async def ask(images: int, weight: float | None) -> None:
        await replica._batcher(ScoreRequest(images_N3PP[:images], weight))

    for images in (1, 2, 3, 5, 7, 8, 9, 13, 20):
        for weight in (None, 0.0, 1.0):
            asyncio.run(ask(images, weight))
    assert passed == warm
    replica.close()


def test_a_replica_is_ready_once_constructed_and_ends_with_its_last_user(system_of: SystemOf) -> None:
    system = system_of("minute", 24)
    before = threading.active_count()
    replica = Replica(system.store, system.keys, ServingConfig())
    assert replica.snapshot().commit == system.newest()
    del replica
    gc.collect()
    until(lambda: threading.active_count() <= before or None, 30)
