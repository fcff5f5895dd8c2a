"""A replica takes on so many predictions at a time; the next caller is told to come again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx2
from direct_service import URL, Service, post
from small_system import System, picture

from lmeraser.serving_config import ServingConfig
from serving.admission import most_requests

SystemOf = Callable[..., System]


def test_one_request_too_many_gets_a_problem_until_another_ends(system_of: SystemOf) -> None:
    service = Service(system_of(), max_batch_images=1)
    most = most_requests(ServingConfig(max_batch_images=1))

    async def run() -> list[httpx2.Response]:
        async with httpx2.AsyncClient(base_url=URL, transport=service.transport, timeout=60) as client:

            async def ask() -> httpx2.Response:
                return await client.post("/v1/predict", content=picture(1), headers={"Content-Type": "image/png"})

            held = [asyncio.create_task(hold(service)) for _ in range(most)]
            await asyncio.sleep(0.2)
            answers = [await ask(), await client.get("/healthz")]
            held[0].cancel()
            await asyncio.wait(held[:1])
            answers.append(await ask())
            for task in held:
                task.cancel()
            await asyncio.wait(held)
            return answers

    refused, health, answered = asyncio.run(run())
    assert (refused.status_code, health.status_code, answered.status_code) == (503, 200, 200)
    assert refused.headers["content-type"] == "application/problem+json"
    assert (refused.json()["type"], refused.headers["retry-after"]) == ("urn:lmeraser:problem:overloaded", "1")


async def hold(service: Service) -> None:
    """A request whose body does not come to its end."""

    async def receive() -> Any:
        return await asyncio.Event().wait()

    async def send(message: Any) -> None:
        raise AssertionError(f"nothing was to be answered: {message}")

    await service.app(post("/v1/predict", "image/png"), receive, send)
