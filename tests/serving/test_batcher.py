"""Requests that arrive while a batch runs form the next batch, within the limit, and fail only with their batch."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
import pytest

from serving.batcher import Batcher


class GatedPass:
    """A fake forward pass: each batch runs until it is released; the result is the first pixel of each image."""

    def __init__(self) -> None:
        self.sizes: list[list[int]] = []
        self._may_run = threading.Semaphore(0)

    def release(self, batches: int) -> None:
        self._may_run.release(batches)

    def process(self, requests: Sequence[np.ndarray]) -> list[list[int]]:
        self.sizes.append([len(images_N3PP) for images_N3PP in requests])
        assert self._may_run.acquire(timeout=30)
        if any((images_N3PP == 13).any() for images_N3PP in requests):
            raise RuntimeError("a batch with a 13")
        return [images_N3PP[:, 0, 0, 0].tolist() for images_N3PP in requests]


def images(value: int, count: int = 1) -> np.ndarray:
    return np.full((count, 3, 2, 2), value, np.uint8)


async def running(
    batcher: Batcher[np.ndarray, list[int]], gated: GatedPass, value: int, batches: int
) -> asyncio.Task[list[int]]:
    """A request whose batch, the ``batches``-th of all, is already running."""
    task = asyncio.create_task(batcher(images(value)))
    while len(gated.sizes) < batches:
        await asyncio.sleep(0.001)
    return task


def test_requests_that_arrive_while_a_batch_runs_share_the_next_and_get_their_own_results() -> None:
    gated = GatedPass()

    async def run() -> list[list[int]]:
        batcher = Batcher(gated.process, max_images=64)
        tasks = [await running(batcher, gated, 0, 1)]
        tasks += [asyncio.create_task(batcher(images(value, value))) for value in (1, 2, 3)]
        await asyncio.sleep(0)
        gated.release(2)
        return await asyncio.gather(*tasks)

    answers = asyncio.run(run())
    assert gated.sizes == [[1], [1, 2, 3]]
    assert answers == [[0], [1], [2, 2], [3, 3, 3]]


def test_a_batch_is_within_the_limit_and_keeps_the_order() -> None:
    gated = GatedPass()

    async def run() -> None:
        batcher = Batcher(gated.process, max_images=4)
        tasks = [await running(batcher, gated, 0, 1)]
        tasks += [asyncio.create_task(batcher(images(1, count))) for count in (3, 1, 2, 4, 1)]
        await asyncio.sleep(0)
        gated.release(9)
        await asyncio.gather(*tasks)

    asyncio.run(run())
    assert gated.sizes == [[1], [3, 1], [2], [4], [1]]


def test_a_failing_batch_fails_only_its_own_requests() -> None:
    gated = GatedPass()

    async def run() -> list[list[int] | BaseException]:
        batcher = Batcher(gated.process, max_images=2)
        tasks = [await running(batcher, gated, 1, 1)]
        tasks += [asyncio.create_task(batcher(images(value))) for value in (13, 2, 3, 4)]
        await asyncio.sleep(0)
        gated.release(9)
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        return [*answers, await batcher(images(5))]

    answers = asyncio.run(run())
    assert [type(answer) for answer in answers] == [list, RuntimeError, RuntimeError, list, list, list]


@pytest.mark.parametrize("after", [0, 1])
def test_a_caller_that_disconnects_delays_nobody(after: int) -> None:
    gated = GatedPass()

    async def run() -> list[list[int]]:
        batcher = Batcher(gated.process, max_images=64)
        tasks = [await running(batcher, gated, 0, 1), asyncio.create_task(batcher(images(1)))]
        await asyncio.sleep(0)
        tasks.pop(after).cancel()
        tasks.append(asyncio.create_task(batcher(images(2))))
        await asyncio.sleep(0)
        gated.release(2)
        return await asyncio.gather(*tasks)

    answers = asyncio.run(run())
    assert answers == ([[1], [2]] if after == 0 else [[0], [2]])
    assert gated.sizes == [[1], [1, 1] if after == 0 else [1]]
