"""The blocking client of the service."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar, cast, overload

import httpx2

from lmeraser.client import calls
from lmeraser.client.deletion_methods import DeletionMethods, items
from lmeraser.client.encoding import ImageLike
from lmeraser.client.exchange import Answer, Call, Pause, Program
from lmeraser.client.responses import Cluster, CommitSummary, FailedImage, Prediction
from lmeraser.client.transport import (
    answer_of,
    authorization,
    checked_url,
    is_local,
    no_answer,
    proxy_of,
    request_arguments,
)
from lmeraser.paging import DEFAULT_LIMIT, MAX_LIMIT, Page

T = TypeVar("T")


class Client(DeletionMethods):
    """Calls the service and blocks until it answers.

    Every call but :meth:`ready` is retried up to four times when the connection is lost, on 408, 429, 502, 503 and 504,
    and when a replica died during the call. Pauses double from 0.5 s, or are as long as Retry-After says. Calls to this
    machine bypass proxies; other calls use the proxy that the environment names (``HTTPS_PROXY``).

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
        ServiceError: when it refuses the call; see ``status`` and ``request_id``.
        RequestError: before anything is sent, when an argument is not valid, such as a malformed deletion id.

    Args:
        base_url: such as ``http://127.0.0.1:8000``.
        api_key: sent with every call; ``$LMERASER_API_KEY`` when None.
        timeout_s: longest wait for one answer, in seconds.
        transport: replaces the network, for tests.

    Raises:
        ConfigError: when the address or the key is malformed.
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
            # Without a transport of its own, the proxy from the environment would get the key and the images.
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

        Args:
            images: one image or an iterable of them. An image is a path, encoded bytes, a file that is open in binary
                mode, a PIL image, a uint8 array [H, W, 3] or [H, W], or a mapping with ``bytes`` or ``path``, as in
                Hugging Face's ``datasets``.
            specialist_weight: λ, from 0 (shared head) to 1 (specialist). When None, the service's own value if the
                pooled head is better by cross-validation, else 0.

        Returns:
            One prediction for one image; a list for several, in which an image that cannot be used is a
            :class:`FailedImage`.

        Example:
            >>> answers = client.predict([np.zeros((8, 8), np.uint8), b"no image"], specialist_weight=1.0)
            >>> [type(answer).__name__ for answer in answers]
            ['Prediction', 'FailedImage']

        Raises:
            DataError: when a path, a file or a PIL image cannot be read, or a value is not an image.
            RequestError: when ``specialist_weight`` is not a number from 0 to 1.
            ServiceError: when a single image cannot be used.
        """
        return self._run(calls.predict(images, specialist_weight))

    def clusters(self) -> Iterator[Cluster]:
        """All prompt clusters, largest first; each page is fetched when it is needed. Needs the scope "admin".

        A cluster that gains or loses rows meanwhile may be left out or come twice.
        """
        return items(lambda cursor: self.clusters_page(limit=MAX_LIMIT, cursor=cursor))

    def clusters_page(self, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None) -> Page[Cluster]:
        """One page of the prompt clusters, largest first; needs the scope "admin".

        Args:
            limit: most clusters on the page, 1 to 1000.
            cursor: ``next_cursor`` of the previous page; None for the first page.

        Raises:
            RequestError: when an argument is not allowed.
        """
        return self._run(calls.clusters_page(limit, cursor))

    def commit(self) -> CommitSummary:
        """The newest commit; needs the scope "admin".

        Example:
            >>> client.commit().clusters == len(list(client.clusters()))
            True
        """
        return self._run(calls.commit())

    def ready(self) -> bool:
        """Whether the service answers predictions now.

        False when it cannot be reached (so a wrong address is False for ever), or answers that it is not ready yet.
        Asked once, without retries, so that callers can poll while a service starts. Needs no API key.

        Raises:
            ServiceError: when something else answers at this address.
        """
        return self._run(calls.ready())

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
                    step = program.send(self._send(step))
        except StopIteration as stop:
            return cast("T", stop.value)

    def _send(self, call: Call) -> Answer:
        try:
            return answer_of(self._http.request(call.method, call.path, **request_arguments(call)), self._proxy)
        except httpx2.TransportError as error:
            return no_answer(error, self._proxy)
