"""A caller that sends its body too slowly or never gets a problem, and occupies nothing for long."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from direct_service import Service, post
from small_system import System, picture

from serving import bodies

SystemOf = Callable[..., System]
JSON = "application/json"
FORM = "multipart/form-data; boundary=x"


def answer_to(service: Service, path: str, content_type: str, messages: list[dict[str, Any]]) -> tuple[int, Any]:
    """Status and JSON for a caller that sends these messages and then goes silent, but does not hang up."""
    sent: list[Any] = []

    async def run() -> None:
        remaining = iter(messages)

        async def receive() -> Any:
            for message in remaining:
                return message
            return await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        await asyncio.wait_for(service.app(post(path, content_type), receive, send), timeout=60)

    asyncio.run(run())
    return sent[0]["status"], json.loads(b"".join(message.get("body", b"") for message in sent[1:]))


def part(body: bytes, more: bool) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


@pytest.mark.parametrize(
    ("path", "content_type", "begun"),
    [
        ("/v1/predict", JSON, b'{"images": ["'),
        ("/v1/predict", FORM, b'--x\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\nab'),
        ("/v1/predict", "image/png", picture(1)[:20]),
        ("/v1/deletions", JSON, b'{"sample_ids": ["'),
    ],
)
def test_a_body_that_does_not_arrive_in_time_gets_408(
    system_of: SystemOf, monkeypatch: pytest.MonkeyPatch, path: str, content_type: str, begun: bytes
) -> None:
    monkeypatch.setattr(bodies, "BODY_TIMEOUT_S", 0.2)
    service = Service(system_of())
    for messages in ([], [part(begun, True)], [part(begun[:5], True), part(begun[5:], True)]):
        status, problem = answer_to(service, path, content_type, messages)
        assert (status, problem["status"]) == (408, 408)
        assert "0.2 s" in problem["detail"]


def test_an_answer_may_take_longer_than_a_body_may(system_of: SystemOf, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(system_of())
    monkeypatch.setattr(bodies, "BODY_TIMEOUT_S", 0.2)
    delete = service.coordinator.delete

    async def slow(*arguments: Any) -> Any:
        await asyncio.sleep(0.5)
        return await delete(*arguments)

    monkeypatch.setattr(service.coordinator, "delete", slow)
    status, deletion = answer_to(service, "/v1/deletions", JSON, [part(b'{"sample_ids": ["s3"]}', False)])
    assert (status, deletion["rows"]) == (202, 1)
