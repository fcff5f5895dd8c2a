"""The HTTP surface over a system in this process, without Ray and without a network."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import httpx2
from small_system import System
from until import until

from actors.coordinator import Coordinator
from lmeraser.client.async_client import AsyncClient
from lmeraser.config import ServingConfig
from lmeraser.deletion import Deletion, DeletionRequest, Preview, Status
from lmeraser.errors import NotReadyError
from lmeraser.paging import Page
from lmeraser.proof.outcomes import Outcome, outcomes
from lmeraser.state.log import Log
from serving.api_keys import ApiKeys
from serving.http_routes import create_app
from serving.replica import Replica

T = TypeVar("T")
URL = "http://127.0.0.1:8000"
# What ends the threads of each replica that was made here, the newest last.
ENDINGS: list[Callable[[], object]] = []


def post(path: str, content_type: str) -> dict[str, Any]:
    """The ASGI scope of a POST request."""
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "root_path": ""}
    headers = [(b"host", b"127.0.0.1:8000"), (b"content-type", content_type.encode())]
    return scope | {"scheme": "http", "query_string": b"", "client": ("127.0.0.1", 1), "headers": headers}


class DirectCoordinator:
    """A coordinator in this process, called as the service calls it."""

    def __init__(self, coordinator: Coordinator) -> None:
        self.coordinator = coordinator

    async def delete(self, request: DeletionRequest) -> Deletion:
        return self.coordinator.delete(request)

    async def preview(self, request: DeletionRequest, with_ids: bool) -> Preview:
        return self.coordinator.previews.preview(request, with_ids=with_ids)

    async def preview_of(self, deletion_id: str, with_ids: bool) -> Preview:
        return self.coordinator.previews.preview_of(deletion_id, with_ids=with_ids)

    async def approve(self, deletion_id: str, by: str, preview: str | None) -> Deletion:
        return self.coordinator.approvals.approve(deletion_id, by, preview)

    async def decline(self, deletion_id: str, by: str, reason: str) -> Deletion:
        return self.coordinator.approvals.decline(deletion_id, by, reason)

    async def retry(self, deletion_id: str) -> Deletion:
        return self.coordinator.retry(deletion_id)

    async def deletion(self, deletion_id: str) -> Deletion:
        return self.coordinator.deletion(deletion_id)

    async def deletions(self, limit: int, cursor: str | None, status: Status | None) -> Page[Deletion]:
        return self.coordinator.deletions(limit, cursor, status)

    async def outcomes(
        self, sample_ids: tuple[str, ...], subject_ids: tuple[str, ...], deletions: tuple[str, ...]
    ) -> list[Outcome]:
        records = Log(self.coordinator._store).advance()
        return outcomes(records, self.coordinator._hash_key, sample_ids, subject_ids, deletions)

    async def receipt(self, deletion_id: str) -> dict[str, Any]:
        return self.coordinator.receipt(deletion_id)

    def finish(self) -> None:
        while self.coordinator.step():
            pass


class Service:
    """One replica and one coordinator of a system, reached without a network."""

    def __init__(self, system: System, **serving: Any) -> None:
        self.system = system
        self.coordinator = DirectCoordinator(system.coordinator())
        self.replica = Replica(system.store, system.keys, ServingConfig(**serving))
        ENDINGS.append(self.replica.close)
        self.app = create_app(self.replica, self.coordinator, ApiKeys(system.keys))
        self.transport = httpx2.ASGITransport(self.app)

    def caught_up(self) -> None:
        """Return once the replica answers from the newest commit, or has seen that it holds no rows."""
        newest = self.system.newest()

        def answers() -> bool | None:
            try:
                return self.replica.snapshot().commit.number >= newest.number or None
            except NotReadyError:
                return newest.rows == 0 or None

        until(answers, 30)

    def client(self, work: Callable[[AsyncClient], Awaitable[T]]) -> T:
        async def run() -> T:
            async with AsyncClient(URL, transport=self.transport) as client:
                return await work(client)

        return asyncio.run(run())

    def http(self, method: str, path: str, **arguments: Any) -> httpx2.Response:
        async def run() -> httpx2.Response:
            async with httpx2.AsyncClient(base_url=URL, transport=self.transport) as client:
                return await client.request(method, path, **arguments)

        return asyncio.run(run())
