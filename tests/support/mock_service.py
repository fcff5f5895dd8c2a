"""A service that gives prepared answers, for tests of the client without a network."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import httpx2

from lmeraser.client.client import Client

URL = "http://service"
CAT = {
    "label": "cat",
    "probabilities": {"cat": 0.9, "dog": 0.1},
    "cluster": "00ff",
    "route": "specialist",
    "commit": 7,
}
ACCEPTED: dict[str, Any] = {"id": "d1", "status": "accepted", "rows": 2, "accepted_at": "2030-01-01T00:00:00.000+00:00"}
Respond = Callable[[httpx2.Request], httpx2.Response]


def answers(*replies: Respond | httpx2.Response | Exception) -> tuple[Client, list[httpx2.Request]]:
    """A client of a service that gives these answers in turn, and the requests that the service received."""
    seen: list[httpx2.Request] = []
    remaining = iter(replies)

    def respond(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        reply = next(remaining)
        if isinstance(reply, Exception):
            raise reply
        return reply if isinstance(reply, httpx2.Response) else reply(request)

    return Client(URL, transport=httpx2.MockTransport(respond)), seen


def predictions(*values: dict[str, Any]) -> httpx2.Response:
    return httpx2.Response(200, json={"predictions": list(values), "commit": 7})


def later(status: int, seconds: str = "0") -> httpx2.Response:
    return httpx2.Response(status, headers={"Retry-After": seconds}, json={"title": "Not ready", "detail": "wait"})


def sent_images(request: httpx2.Request) -> list[bytes]:
    return [base64.b64decode(text) for text in json.loads(request.content)["images"]]
