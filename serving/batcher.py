"""Requests that come while one batch runs go together in the next.

``ray.serve.batch`` makes up a batch before it waits for the one that runs, so without a waiting time each
request is a batch of its own (docs/decisions/0029).
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
    """Passes requests to a function that blocks, in its own thread, one batch at a time. Used on one event loop."""

    def __init__(self, answer: Callable[[Sequence[R]], list[T]], max_images: int) -> None:
        """Start without a request.

        Args:
            answer: from several requests, each as long as it has images, to the answer to each.
            max_images: most images of one batch; a request that holds more has a batch of its own.
        """
        self._answer = answer
        self._max_images = max_images
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="forward")
        self._waiting: deque[tuple[R, asyncio.Future[T]]] = deque()
        self._running: asyncio.Task[None] | None = None

    async def __call__(self, request: R) -> T:
        """The answer to one request; raises what the function raised for its batch."""
        answered: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, answered))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await answered

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while batch := self._next_batch():
            try:
                requests = [request for request, _ in batch]
                results = await loop.run_in_executor(self._thread, self._answer, requests)
            except Exception as error:
                for _, answered in batch:
                    if not answered.done():
                        answered.set_exception(error)
                continue
            for (_, answered), result in zip(batch, results, strict=True):
                # A caller that has hung up waits no more.
                if not answered.done():
                    answered.set_result(result)
        self._running = None

    def _next_batch(self) -> list[tuple[R, asyncio.Future[T]]]:
        batch: list[tuple[R, asyncio.Future[T]]] = []
        images = 0
        while self._waiting:
            request, answered = self._waiting[0]
            if answered.done():
                self._waiting.popleft()
                continue
            images += len(request)
            if batch and images > self._max_images:
                break
            batch.append(self._waiting.popleft())
        return batch
