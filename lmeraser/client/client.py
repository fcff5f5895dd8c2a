"""The Python client of the service: the programs of ``lmeraser.client.calls``, blocking and async."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from types import TracebackType
from typing import Literal, Self, TypeVar, cast, overload

import httpx2

from lmeraser.client import calls
from lmeraser.client.calls import Answer, Call, Pause, Program
from lmeraser.client.encoding import ImageLike
from lmeraser.client.responses import Cluster, FailedImage, Prediction, Receipt
from lmeraser.client.transport import (
    answer_of,
    authorization,
    checked_url,
    is_local,
    no_answer,
    proxy_of,
    request_arguments,
)
from lmeraser.deletion import Deletion

__all__ = ["AsyncClient", "Client", "Cluster", "Deletion", "FailedImage", "ImageLike", "Prediction", "Receipt"]

T = TypeVar("T")


class Client:
    """Calls the service and waits for its answers.

    Every call repeats itself on a lost connection, on 408, 429, 502, 503 and 504, and when a replica died over it,
    up to four times, with growing pauses or as long as Retry-After says. Calls to this machine go by no proxy; others
    by the one that the environment names (``HTTPS_PROXY``).

    Example:
        >>> from lmeraser import Client
        >>> with Client(url, api_key=key) as client:
        ...     prediction = client.predict("sign.png")
        ...     deletion = client.delete(subject_ids=["u42"])
        ...     done = client.wait(deletion.id, status="completed")
        ...     client.receipt(deletion.id).verify(public_key_pem)
        >>> done.status, done.rows
        ('completed', 1)

    Every method raises:
        AuthenticationError: when the API key is missing, unknown or revoked.
        PermissionDeniedError: when the API key lacks the scope that the call needs.
        ServiceUnavailableError: when the service cannot be reached or cannot answer now.
        ServiceError: when it refuses the call; ``status`` and ``request_id`` say more.
        RequestError: at once, when an argument cannot be one, such as a deletion's id that no deletion has.

    Args:
        base_url: such as ``http://127.0.0.1:8000``.
        api_key: goes with every call; ``$LMERASER_API_KEY`` when None.
        timeout_s: longest wait for one answer.
        transport: carries requests elsewhere than to the network, for tests.

    Raises:
        ConfigError: when the address or the key cannot be one.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        url = checked_url(base_url)
        self._proxy = None if transport else proxy_of(url)
        if transport is None and is_local(url):
            # A transport of its own: with none, the proxy of the environment would get the key and the images.
            transport = httpx2.HTTPTransport()
        self._http = httpx2.Client(base_url=url, headers=authorization(api_key), timeout=timeout_s, transport=transport)

    # A str is an Iterable too; the first overload decides, and a path is one image.
    @overload
    def predict(self, images: ImageLike, *, specialist_weight: float | None = None) -> Prediction: ...  # type: ignore[overload-overlap]
    @overload
    def predict(
        self, images: Iterable[ImageLike], *, specialist_weight: float | None = None
    ) -> list[Prediction | FailedImage]: ...
    def predict(
        self, images: ImageLike | Iterable[ImageLike], *, specialist_weight: float | None = None
    ) -> Prediction | list[Prediction | FailedImage]:
        """Predict one image, or several in order.

        An image is a path, encoded bytes, a file that is open for reading bytes, a PIL image, a uint8 array [H, W, 3]
        or [H, W], or a mapping with ``bytes`` or ``path``, as Hugging Face's ``datasets`` has it. Among several, one
        that cannot be used comes back as :class:`FailedImage`; a single one raises ServiceError.
        ``specialist_weight`` is λ, from 0 (shared head) to 1 (specialist). When None it is the service's own where the
        pooled head is better by cross-validation, else 0.

        Example:
            >>> answers = client.predict([np.zeros((8, 8), np.uint8), b"no image"], specialist_weight=1.0)
            >>> [type(answer).__name__ for answer in answers]
            ['Prediction', 'FailedImage']

        Raises:
            DataError: when a path, a file or a PIL image cannot be read, or a value is no image.
            RequestError: when ``specialist_weight`` is no number from 0 to 1.
        """
        return self._run(calls.predict(images, specialist_weight))

    def delete(
        self,
        *,
        sample_ids: Iterable[str | int] = (),
        subject_ids: Iterable[str | int] = (),
        idempotency_key: str | None = None,
        deadline: datetime | None = None,
    ) -> Deletion:
        """Ask for the deletion of samples, and of all samples of subjects.

        One idempotency key, made here unless given, goes with every repetition of the call: it deletes once.
        Clusters whose deletions have the nearest ``deadline`` are tuned first. An integer stands for its digits.

        Example:
            >>> client.delete(sample_ids=["nowhere"], idempotency_key="ticket-17").unknown_ids
            ('nowhere',)

        Raises:
            RequestError: when the deadline has no offset from UTC, an id is neither an integer nor text of 1 to 1024
                characters, or the idempotency key is not 1 to 255 printable characters of ASCII.
        """
        return self._run(calls.delete(sample_ids, subject_ids, idempotency_key, deadline))

    def deletion(self, deletion_id: str) -> Deletion:
        """How far a deletion has come."""
        return self._run(calls.deletion(deletion_id))

    def retry(self, deletion_id: str) -> Deletion:
        """Have the clusters of a deletion that failed tuned again."""
        return self._run(calls.retry(deletion_id))

    def deletions(self) -> list[Deletion]:
        """All deletions, oldest first."""
        return self._run(calls.deletions())

    def wait(
        self,
        deletion_id: str,
        *,
        status: Literal["erased", "completed"] = "completed",
        timeout_s: float = 600.0,
        progress: Callable[[Deletion], None] | None = None,
    ) -> Deletion:
        """Wait until a deletion has reached a status; ``progress`` is called after every look.

        Example:
            >>> deletion = client.delete(sample_ids=["s17"])
            >>> looks = []
            >>> client.wait(deletion.id, status="erased", progress=looks.append) == looks[-1]
            True

        Raises:
            WaitTimeoutError: when it has not in ``timeout_s`` seconds.
            ServiceError: when it failed and "completed" was awaited.
        """
        return self._run(calls.wait(deletion_id, status, timeout_s, progress))

    def receipt(self, deletion_id: str) -> Receipt:
        """The signed statement that the rows were erased; there is one from "erased" on."""
        return self._run(calls.receipt(deletion_id))

    def clusters(self) -> list[Cluster]:
        """The prompt clusters of the newest commit."""
        return self._run(calls.clusters())

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, program: Program[T]) -> T:
        try:
            step = next(program)
            while True:
                if isinstance(step, Pause):
                    time.sleep(step.seconds)
                    step = next(program)
                else:
                    step = program.send(self._carry_out(step))
        except StopIteration as stop:
            return cast("T", stop.value)

    def _carry_out(self, call: Call) -> Answer:
        try:
            return answer_of(self._http.request(call.method, call.path, **request_arguments(call)), self._proxy)
        except httpx2.TransportError as error:
            return no_answer(error, self._proxy)


class AsyncClient:
    """The same calls as :class:`Client`, awaited.

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
    ) -> Deletion:
        """See :meth:`Client.delete`."""
        return await self._run(calls.delete(sample_ids, subject_ids, idempotency_key, deadline))

    async def deletion(self, deletion_id: str) -> Deletion:
        """See :meth:`Client.deletion`."""
        return await self._run(calls.deletion(deletion_id))

    async def retry(self, deletion_id: str) -> Deletion:
        """See :meth:`Client.retry`."""
        return await self._run(calls.retry(deletion_id))

    async def deletions(self) -> list[Deletion]:
        """See :meth:`Client.deletions`."""
        return await self._run(calls.deletions())

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

    async def clusters(self) -> list[Cluster]:
        """See :meth:`Client.clusters`."""
        return await self._run(calls.clusters())

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
                    step = program.send(await self._carry_out(step))
        except StopIteration as stop:
            return cast("T", stop.value)

    async def _carry_out(self, call: Call) -> Answer:
        try:
            return answer_of(await self._http.request(call.method, call.path, **request_arguments(call)), self._proxy)
        except httpx2.TransportError as error:
            return no_answer(error, self._proxy)
