"""Bodies and headers are bounded: each by the limit of its route, and all of them together."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from direct_service import Service, post
from small_system import System, picture
from starlette.exceptions import HTTPException

from lmeraser.config import ImagesConfig
from lmeraser.deletion import MAX_IDS
from serving.bodies import Bodies, Body

SystemOf = Callable[..., System]
JSON = "application/json"
MEGABYTE = b" " * 1_000_000


class Call:
    """A request whose body is sent piece by piece."""

    def __init__(self, service: Service, path: str, content_type: str, **headers: str) -> None:
        self._pieces: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._sent: list[Any] = []
        self.taken_bytes = 0
        scope = post(path, content_type)
        scope["headers"] += [(name.encode().replace(b"_", b"-"), value.encode()) for name, value in headers.items()]

        async def receive() -> Any:
            message = await self._pieces.get()
            self.taken_bytes += len(message.get("body", b""))
            return message

        async def send(message: Any) -> None:
            self._sent.append(message)

        self.task = asyncio.create_task(service.app(scope, receive, send))

    def piece(self, body: bytes, more: bool = True) -> None:
        self._pieces.put_nowait({"type": "http.request", "body": body, "more_body": more})

    async def answer(self) -> tuple[int, dict[str, str], Any]:
        await asyncio.wait_for(self.task, 30)
        headers = {name.decode(): value.decode() for name, value in self._sent[0]["headers"]}
        return (
            self._sent[0]["status"],
            headers,
            json.loads(b"".join(message.get("body", b"") for message in self._sent)),
        )


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("path", "content_type", "most_bytes"),
    [
        ("/v1/predict", "image/png", 2_000_000),
        ("/v1/predict", JSON, 65536 + 3 * (2_000_000 * 7 // 5 + 256)),
        ("/v1/predict", "multipart/form-data; boundary=x", 65536 + 3 * (2_000_000 * 7 // 5 + 256)),
        ("/v1/deletions", JSON, MAX_IDS * 1028),
        ("/v1/deletions/none/retry", JSON, 65536),
    ],
)
def test_a_body_is_bounded_by_the_limit_of_its_route(
    system_of: SystemOf, path: str, content_type: str, most_bytes: int
) -> None:
    service = Service(system_of(), images=ImagesConfig(max_bytes=2_000_000), max_batch_images=3)

    async def run() -> None:
        announced = Call(service, path, content_type, content_length=str(most_bytes + 1))
        status, headers, problem = await announced.answer()
        assert (status, headers["content-type"]) == (413, "application/problem+json")
        assert headers["connection"] == "close"
        assert f"longer than {most_bytes} bytes" in problem["detail"]
        assert announced.taken_bytes == 0
        if not path.endswith("retry"):
            # In pieces, without a length.
            chunked = Call(service, path, content_type, transfer_encoding="chunked")
            begun = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n'
            chunked.piece(begun if content_type.startswith("multipart") else b" ")
            for _ in range(most_bytes // len(MEGABYTE) + 5):
                chunked.piece(MEGABYTE)
            status, headers, _ = await chunked.answer()
            assert (status, headers["connection"]) == (413, "close")
            assert most_bytes < chunked.taken_bytes <= most_bytes + len(MEGABYTE)

    asyncio.run(run())


@pytest.mark.slow
def test_100_000_ids_of_full_length_fit(system_of: SystemOf) -> None:
    service = Service(system_of("minute", 30))
    ids = [f"{number:01024}" for number in range(MAX_IDS)]
    answer = service.http("POST", "/v1/deletions", json={"subject_ids": ids, "deadline": "2030-01-01T00:00:00Z"})
    assert (answer.status_code, answer.json()["rows"]) == (202, 0)


def test_an_image_of_the_greatest_size_is_accepted_in_every_form(system_of: SystemOf) -> None:
    service = Service(system_of(), images=ImagesConfig(max_bytes=len(picture(1))), max_batch_images=1)
    plain = service.http("POST", "/v1/predict", content=picture(1), headers={"content-type": "image/png"})
    files = service.http("POST", "/v1/predict", files={"images": ("a.png", picture(1), "image/png")})
    assert (plain.status_code, files.status_code, plain.text) == (200, 200, files.text)


def test_slow_bodies_do_not_block_others(system_of: SystemOf) -> None:
    service = Service(system_of(), max_batch_images=1)

    async def run() -> None:
        slow = [Call(service, "/v1/predict", "image/png", transfer_encoding="chunked") for _ in range(200)]
        for call in slow:
            call.piece(b"x")
        await settled()
        quick = Call(service, "/v1/predict", "image/png")
        quick.piece(picture(1), more=False)
        status, _, prediction = await quick.answer()
        assert (status, len(prediction["predictions"])) == (200, 1)
        ended = [call for call in slow if call.task.done()]
        assert 0 < len(ended) < len(slow)
        for call in ended:
            status, headers, problem = await call.answer()
            assert (status, headers["connection"]) == (408, "close")
            assert "needed by others" in problem["detail"]
        # Those that had been arriving for the longest time were ended.
        assert slow[: len(ended)] == ended
        for call in slow[len(ended) :]:
            call.task.cancel()

    asyncio.run(run())


def outcomes(*steps: tuple[str, int]) -> list[int]:
    """HTTP status (0: success) of each step (name of a body, bytes), with room for 4 bodies and 100 bytes."""
    ends = []

    async def run() -> None:
        bodies = Bodies(max_arriving=4, max_bytes=100)
        made: dict[str, Body] = {}
        for name, count in steps:
            body = made.get(name) or made.setdefault(name, bodies.begin())
            body.max_bytes = 1000
            if count < 0:
                body.close()
                continue

            async def receive(count: int = count, last: bool = name.isupper()) -> Any:
                return {"type": "http.request", "body": b"x" * count, "more_body": not last}

            try:
                await body.receive(receive)
                ends.append(0)
            except HTTPException as error:
                ends.append(error.status_code)
        assert bodies._held_bytes == sum(body.held_bytes for body in made.values()) <= 100 + 100

    asyncio.run(run())
    return ends


def test_all_bodies_together_are_bounded_in_bytes() -> None:
    # Capital letters: the body arrives in one piece, and occupies memory until its answer.
    assert outcomes(("A", 60), ("B", 41)) == [0, 503]
    assert outcomes(("A", 60), ("B", 40)) == [0, 0]
    assert outcomes(("A", 60), ("A", -1), ("B", 100)) == [0, 0]


def test_the_body_that_has_been_arriving_for_longest_makes_room() -> None:
    async def run() -> list[int]:
        bodies = Bodies(max_arriving=4, max_bytes=100)

        async def arriving(body: Body) -> int:
            pieces = iter([b"x" * 60])

            async def receive() -> Any:
                for piece in pieces:
                    return {"type": "http.request", "body": piece, "more_body": True}
                return await asyncio.Event().wait()

            body.max_bytes = 1000
            try:
                while True:
                    await body.receive(receive)
            except HTTPException as error:
                return error.status_code
            finally:
                body.close()

        first = asyncio.create_task(arriving(bodies.begin()))
        await settled()
        second = asyncio.create_task(arriving(bodies.begin()))
        await settled()
        assert first.done() and not second.done()
        assert bodies._held_bytes == 60
        second.cancel()
        await asyncio.wait([second])
        assert bodies._held_bytes == 0
        return [first.result()]

    assert asyncio.run(run()) == [408]


def test_too_many_or_too_long_headers_are_refused(system_of: SystemOf) -> None:
    service = Service(system_of())
    for headers in ({f"x-{number}": "a" for number in range(100)}, {"cookie": "a" * 65_536}):
        answer = service.http("GET", "/healthz", headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (431, "application/problem+json")
    assert service.http("GET", f"/{'a' * 60_000}", headers={"cookie": "a" * 6_000}).status_code == 431
    assert service.http("GET", "/healthz", headers={"cookie": "a" * 60_000}).status_code == 200
