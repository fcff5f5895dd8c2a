"""The async client of the service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeVar, cast, overload

import httpx2

from lmeraser.client import calls
from lmeraser.client.arguments import checked_status
from lmeraser.client.encoding import ImageLike
from lmeraser.client.exchange import Answer, Call, Pause, Program
from lmeraser.client.responses import Cluster, CommitSummary, FailedImage, Prediction, Receipt
from lmeraser.client.transport import (
    answer_of,
    authorization,
    checked_url,
    is_local,
    no_answer,
    proxy_of,
    request_arguments,
)
from lmeraser.deletion import Deletion, Preview, Status
from lmeraser.paging import DEFAULT_LIMIT, MAX_LIMIT, Page
from lmeraser.proof.outcomes import Outcome

T = TypeVar("T")


class AsyncClient:
    """The same methods as :class:`~lmeraser.client.client.Client`, awaited; lists are iterated with ``async for``.

    Example:
        >>> import asyncio
        >>> from lmeraser import AsyncClient
        >>> async def labels(images):
        ...     async with AsyncClient(url, api_key=key) as client:
        ...         return [answer.label for answer in await client.predict(images)]
        >>> len(asyncio.run(labels(["sign.png", "sign.png"])))
        2
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        url = checked_url(base_url)
        self._proxy = None if transport else proxy_of(url)
        if transport is None and is_local(url):
            transport = httpx2.AsyncHTTPTransport()
        self._http = httpx2.AsyncClient(
            base_url=url, headers=authorization(api_key), timeout=timeout_s, transport=transport
        )

    @overload
    async def predict(self, images: ImageLike, *, specialist_weight: float | None = None) -> Prediction: ...  # type: ignore[overload-overlap]
    @overload
    async def predict(
        self, images: Iterable[ImageLike], *, specialist_weight: float | None = None
    ) -> list[Prediction | FailedImage]: ...
    async def predict(
        self, images: ImageLike | Iterable[ImageLike], *, specialist_weight: float | None = None
    ) -> Prediction | list[Prediction | FailedImage]:
        """See :meth:`Client.predict`."""
        return await self._run(calls.predict(images, specialist_weight))

    async def delete(
        self,
        *,
        sample_ids: Iterable[str | int] = (),
        subject_ids: Iterable[str | int] = (),
        idempotency_key: str | None = None,
        deadline: datetime | None = None,
        preview: str | None = None,
    ) -> Deletion:
        """See :meth:`Client.delete`."""
        return await self._run(calls.delete(sample_ids, subject_ids, idempotency_key, deadline, preview))

    async def preview(
        self,
        *,
        sample_ids: Iterable[str | int] = (),
        subject_ids: Iterable[str | int] = (),
        show_ids: bool = False,
    ) -> Preview:
        """See :meth:`Client.preview`."""
        return await self._run(calls.preview(sample_ids, subject_ids, show_ids))

    async def delete_from_file(
        self,
        file: str | Path,
        *,
        column: str | None = None,
        of: Literal["samples", "subjects"] = "samples",
        idempotency_key: str | None = None,
    ) -> list[Deletion]:
        """See :meth:`Client.delete_from_file`."""
        return await self._run(calls.delete_from_file(Path(file), column, of, idempotency_key))

    async def outcomes(
        self,
        *,
        sample_ids: Iterable[str | int] = (),
        subject_ids: Iterable[str | int] = (),
        deletions: Iterable[str] = (),
    ) -> list[Outcome]:
        """See :meth:`Client.outcomes`."""
        return await self._run(calls.outcomes(sample_ids, subject_ids, deletions))

    async def preview_of(self, deletion_id: str, *, show_ids: bool = False) -> Preview:
        """See :meth:`Client.preview_of`."""
        return await self._run(calls.preview_of(deletion_id, show_ids))

    async def approve(self, deletion_id: str, *, preview: str | None = None) -> Deletion:
        """See :meth:`Client.approve`."""
        return await self._run(calls.approve(deletion_id, preview))

    async def decline(self, deletion_id: str, *, reason: str) -> Deletion:
        """See :meth:`Client.decline`."""
        return await self._run(calls.decline(deletion_id, reason))

    async def deletion(self, deletion_id: str) -> Deletion:
        """See :meth:`Client.deletion`."""
        return await self._run(calls.deletion(deletion_id))

    async def retry(self, deletion_id: str) -> Deletion:
        """See :meth:`Client.retry`."""
        return await self._run(calls.retry(deletion_id))

    def deletions(self, *, status: Status | None = None) -> AsyncIterator[Deletion]:
        """See :meth:`Client.deletions`; not awaited, but iterated with ``async for``."""
        status = checked_status(status)
        return _items(lambda cursor: self.deletions_page(limit=MAX_LIMIT, cursor=cursor, status=status))

    async def deletions_page(
        self, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None, status: Status | None = None
    ) -> Page[Deletion]:
        """See :meth:`Client.deletions_page`."""
        return await self._run(calls.deletions_page(limit, cursor, status))

    async def wait(
        self,
        deletion_id: str,
        *,
        status: Literal["erased", "completed"] = "completed",
        timeout_s: float = 600.0,
        progress: Callable[[Deletion], None] | None = None,
    ) -> Deletion:
        """See :meth:`Client.wait`."""
        return await self._run(calls.wait(deletion_id, status, timeout_s, progress))

    async def receipt(self, deletion_id: str) -> Receipt:
        """See :meth:`Client.receipt`."""
        return await self._run(calls.receipt(deletion_id))

    def clusters(self) -> AsyncIterator[Cluster]:
        """See :meth:`Client.clusters`; not awaited, but iterated with ``async for``."""
        return _items(lambda cursor: self.clusters_page(limit=MAX_LIMIT, cursor=cursor))

    async def clusters_page(self, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None) -> Page[Cluster]:
        """See :meth:`Client.clusters_page`."""
        return await self._run(calls.clusters_page(limit, cursor))

    async def commit(self) -> CommitSummary:
        """See :meth:`Client.commit`."""
        return await self._run(calls.commit())

    async def ready(self) -> bool:
        """See :meth:`Client.ready`."""
        return await self._run(calls.ready())

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self, program: Program[T]) -> T:
        try:
            step = next(program)
            while True:
                if isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                    step = next(program)
                else:
                    step = program.send(await self._send(step))
        except StopIteration as stop:
            return cast("T", stop.value)

    async def _send(self, call: Call) -> Answer:
        try:
            return answer_of(await self._http.request(call.method, call.path, **request_arguments(call)), self._proxy)
        except httpx2.TransportError as error:
            return no_answer(error, self._proxy)


async def _items(fetch: Callable[[str | None], Awaitable[Page[T]]]) -> AsyncIterator[T]:
    page = await fetch(None)
    for item in page.items:
        yield item
    while page.next_cursor is not None:
        page = await fetch(page.next_cursor)
        for item in page.items:
            yield item
