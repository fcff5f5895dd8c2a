"""Requests that come while a batch runs go together in the next, within the limit, and fail only with their batch."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
import pytest

from serving.batcher import Batcher


class Held:
    """Stands for the forward pass: each batch runs until it is let go; the answer is the first pixel of each image."""

    def __init__(self) -> None:
        self.sizes: list[list[int]] = []
        self._may_run = threading.Semaphore(0)

    def let_go(self, batches: int) -> None:
        self._may_run.release(batches)

    def answer(self, requests: Sequence[np.ndarray]) -> list[list[int]]:
        self.sizes.append([len(images_N3PP) for images_N3PP in requests])
        assert self._may_run.acquire(timeout=30)
        if any((images_N3PP == 13).any() for images_N3PP in requests):
            raise RuntimeError("a batch with a 13")
        return [images_N3PP[:, 0, 0, 0].tolist() for images_N3PP in requests]


def images(value: int, count: int = 1) -> np.ndarray:
    return np.full((count, 3, 2, 2), value, np.uint8)


async def begun(batching: Batcher[list[int]], held: Held, value: int, batches: int) -> asyncio.Task[list[int]]:
    """A request whose batch, the ``batches``-th of all, runs already."""
    task = asyncio.create_task(batching(images(value)))
    while len(held.sizes) < batches:
        await asyncio.sleep(0.001)
    return task


def test_requests_that_come_while_a_batch_runs_go_together_and_each_gets_its_own() -> None:
    held = Held()

    async def run() -> list[list[int]]:
        batching = Batcher(held.answer, max_images=64)
        tasks = [await begun(batching, held, 0, 1)]
        tasks += [asyncio.create_task(batching(images(value, value))) for value in (1, 2, 3)]
        await asyncio.sleep(0)
        held.let_go(2)
        return await asyncio.gather(*tasks)

    answers = asyncio.run(run())
    assert held.sizes == [[1], [1, 2, 3]]
    assert answers == [[0], [1], [2, 2], [3, 3, 3]]


def test_a_batch_holds_no_more_than_the_limit_and_the_order_stays() -> None:
    held = Held()

    async def run() -> None:
        batching = Batcher(held.answer, max_images=4)
        tasks = [await begun(batching, held, 0, 1)]
        tasks += [asyncio.create_task(batching(images(1, count))) for count in (3, 1, 2, 4, 1)]
        await asyncio.sleep(0)
        held.let_go(9)
        await asyncio.gather(*tasks)

    asyncio.run(run())
    assert held.sizes == [[1], [3, 1], [2], [4], [1]]


def test_a_batch_that_fails_takes_only_its_own_requests_along() -> None:
    held = Held()

    async def run() -> list[list[int] | BaseException]:
        batching = Batcher(held.answer, max_images=2)
        tasks = [await begun(batching, held, 1, 1)]
        tasks += [asyncio.create_task(batching(images(value))) for value in (13, 2, 3, 4)]
        await asyncio.sleep(0)
        held.let_go(9)
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        return [*answers, await batching(images(5))]

    answers = asyncio.run(run())
    assert [type(answer) for answer in answers] == [list, RuntimeError, RuntimeError, list, list, list]


@pytest.mark.parametrize("after", [0, 1])
def test_a_caller_that_hangs_up_holds_nobody_up(after: int) -> None:
    held = Held()

    async def run() -> list[list[int]]:
        batching = Batcher(held.answer, max_images=64)
        tasks = [await begun(batching, held, 0, 1), asyncio.create_task(batching(images(1)))]
        await asyncio.sleep(0)
        tasks.pop(after).cancel()
        tasks.append(asyncio.create_task(batching(images(2))))
        await asyncio.sleep(0)
        held.let_go(2)
        return await asyncio.gather(*tasks)

    answers = asyncio.run(run())
    assert answers == ([[1], [2]] if after == 0 else [[0], [2]])
    assert held.sizes == [[1], [1, 1] if after == 0 else [1]]
