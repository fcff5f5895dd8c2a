"""A replica takes on a limited number of predictions at a time; further callers are asked to retry."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from direct_service import URL, Service
from small_system import System, picture

from lmeraser.config import ServingConfig

SystemOf = Callable[..., System]


def test_a_request_above_the_limit_gets_a_problem_until_another_ends(
    system_of: SystemOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(system_of(), max_batch_images=1)
    most = ServingConfig(max_batch_images=1).max_requests
    waiting: list[asyncio.Event] = []
    predict = service.replica.predict

    async def delayed(*arguments: Any) -> bytes:
        if len(waiting) < most:
            waiting.append(asyncio.Event())
            await waiting[-1].wait()
        return await predict(*arguments)

    monkeypatch.setattr(service.replica, "predict", delayed)

    async def run() -> list[httpx2.Response]:
        async with httpx2.AsyncClient(base_url=URL, transport=service.transport, timeout=60) as client:

            async def ask() -> httpx2.Response:
                return await client.post("/v1/predict", content=picture(1), headers={"Content-Type": "image/png"})

            tasks = [asyncio.create_task(ask()) for _ in range(most)]
            while len(waiting) < most:
                await asyncio.sleep(0.01)
            answers = [await ask(), await client.get("/healthz")]
            waiting[0].set()
            answers.append(await tasks[0])
            answers.append(await ask())
            for event in waiting:
                event.set()
            return answers + await asyncio.gather(*tasks)

    refused, health, *answered = asyncio.run(run())
    assert (refused.status_code, health.status_code) == (503, 200)
    assert {answer.status_code for answer in answered} == {200}
    assert refused.headers["content-type"] == "application/problem+json"
    assert (refused.json()["type"], refused.headers["retry-after"]) == ("urn:lmeraser:problem:overloaded", "1")
