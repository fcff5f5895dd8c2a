"""Requests that arrive while one batch runs form the next batch.

``ray.serve.batch`` makes up a batch before it waits for the one that runs, so without a waiting time every request is a
batch of its own (decision 29).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

R = TypeVar("R", bound=Sized)
T = TypeVar("T")


class Batcher(Generic[R, T]):
    """Runs a blocking function over batches of requests, one batch at a time, in a thread of its own.

    Used on one event loop.
    """

    def __init__(self, process: Callable[[Sequence[R]], list[T]], max_images: int) -> None:
        """Start without requests.

        Args:
            process: takes the requests of a batch and returns one result for each. The ``len()`` of a request is its
                number of images.
            max_images: most images in one batch; a larger request is a batch of its own.
        """
        self._process = process
        self._max_images = max_images
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="forward")
        self._waiting: deque[tuple[R, asyncio.Future[T]]] = deque()
        self._running: asyncio.Task[None] | None = None

    async def __call__(self, request: R) -> T:
        """The result for one request; raises what the function raised for its batch."""
        result: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, result))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await result

    def first(self, work: Callable[[], object]) -> None:
        """Do this in the thread of the batches, before there is one; returns when it is done."""
        self._thread.submit(work).result()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while batch := self._next_batch():
                try:
                    requests = [request for request, _ in batch]
                    values = await loop.run_in_executor(self._thread, self._process, requests)
                except Exception as error:
                    for _, result in batch:
                        if not result.done():
                            result.set_exception(error)
                    continue
                for (_, result), value in zip(batch, values, strict=True):
                    # The caller may have disconnected.
                    if not result.done():
                        result.set_result(value)
        finally:
            self._running = None

    def _next_batch(self) -> list[tuple[R, asyncio.Future[T]]]:
        batch: list[tuple[R, asyncio.Future[T]]] = []
        images = 0
        while self._waiting:
            request, result = self._waiting[0]
            if result.done():
                self._waiting.popleft()
                continue
            images += len(request)
            if batch and images > self._max_images:
                break
            batch.append(self._waiting.popleft())
        return batch
