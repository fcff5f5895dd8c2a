"""The blocking client of the service."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
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

T = TypeVar("T")


class Client:
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

    def delete(
        self,
        *,
        sample_ids: Iterable[str | int] = (),
        subject_ids: Iterable[str | int] = (),
        idempotency_key: str | None = None,
        deadline: datetime | None = None,
        preview: str | None = None,
    ) -> Deletion:
        """Request the deletion of samples, and of all samples of subjects.

        Args:
            sample_ids, subject_ids: text or integers; an integer stands for its decimal digits.
            idempotency_key: requests with the same key and ids delete once; a random one when None. Retries of this
                call always share one key.
            deadline: when the deletion should be completed; clusters with the earliest deadline are tuned first.
            preview: ``token`` of a preview of these ids. The deletion does exactly what it said, or is refused.

        Returns:
            The deletion, usually with the status "accepted". ``unknown_ids`` lists the ids that match no row.

        Example:
            >>> client.delete(sample_ids=["nowhere"], idempotency_key="ticket-17").unknown_ids
            ('nowhere',)

        Raises:
            RequestError: when the deadline has no offset from UTC, an id is neither an integer nor text of 1 to 1024
                characters, or the idempotency key is not 1 to 255 printable ASCII characters.
            ServiceError: when something was committed since the preview (409); nothing is begun then.
        """
        return self._run(calls.delete(sample_ids, subject_ids, idempotency_key, deadline, preview))

    def preview(
        self,
        *,
        sample_ids: Iterable[str | int] = (),
        subject_ids: Iterable[str | int] = (),
        show_ids: bool = False,
    ) -> Preview:
        """What a deletion of these ids would do. Nothing is recorded.

        Args:
            sample_ids, subject_ids: as for :meth:`delete`.
            show_ids: whether to name the rows that would be erased, in ``sample_ids``.

        Example:
            >>> preview = client.preview(subject_ids=["u7"], show_ids=True)
            >>> preview.rows, preview.sample_ids
            (1, ('s7',))
            >>> deletion = client.delete(subject_ids=["u7"], preview=preview.token)
            >>> done = client.wait(deletion.id)
            >>> done.as_previewed, client.receipt(deletion.id).content["after"]["root"] == preview.root
            (True, True)

        Raises:
            ServiceError: when the ids cover too many rows, or something was committed during each of several tries.
        """
        return self._run(calls.preview(sample_ids, subject_ids, show_ids))

    def deletion(self, deletion_id: str) -> Deletion:
        """One deletion with its current status."""
        return self._run(calls.deletion(deletion_id))

    def retry(self, deletion_id: str) -> Deletion:
        """Have the clusters of a failed deletion tuned again.

        The status remains "failed" until the coordinator has taken up the retry; only then does :meth:`wait` wait.
        """
        return self._run(calls.retry(deletion_id))

    def deletions(self, *, status: Status | None = None) -> Iterator[Deletion]:
        """All deletions, newest first, or those with this status; each page is fetched when it is needed.

        Example:
            >>> pending = list(client.deletions(status="accepted"))
            >>> newest = next(client.deletions())

        Raises:
            RequestError: when there is no such status.
        """
        status = checked_status(status)
        return _items(lambda cursor: self.deletions_page(limit=MAX_LIMIT, cursor=cursor, status=status))

    def deletions_page(
        self, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None, status: Status | None = None
    ) -> Page[Deletion]:
        """One page of the deletions, newest first.

        Args:
            limit: most deletions on the page, 1 to 1000.
            cursor: ``next_cursor`` of the previous page; None for the first page.
            status: leaves out the deletions that have another one.

        Raises:
            RequestError: when an argument is not allowed.
        """
        return self._run(calls.deletions_page(limit, cursor, status))

    def wait(
        self,
        deletion_id: str,
        *,
        status: Literal["erased", "completed"] = "completed",
        timeout_s: float = 600.0,
        progress: Callable[[Deletion], None] | None = None,
    ) -> Deletion:
        """Poll a deletion until it has reached a status; ``progress`` is called after every poll.

        Example:
            >>> deletion = client.delete(sample_ids=["s17"])
            >>> polls = []
            >>> client.wait(deletion.id, status="erased", progress=polls.append) == polls[-1]
            True

        Raises:
            WaitTimeoutError: when it has not reached the status within ``timeout_s`` seconds.
            ServiceError: when the deletion failed while "completed" was awaited.
        """
        return self._run(calls.wait(deletion_id, status, timeout_s, progress))

    def receipt(self, deletion_id: str) -> Receipt:
        """The signed statement that the rows were erased; available once the status is "erased"."""
        return self._run(calls.receipt(deletion_id))

    def clusters(self) -> Iterator[Cluster]:
        """All prompt clusters, largest first; each page is fetched when it is needed. Needs the scope "admin".

        A cluster that gains or loses rows meanwhile may be left out or come twice.
        """
        return _items(lambda cursor: self.clusters_page(limit=MAX_LIMIT, cursor=cursor))

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


def _items(fetch: Callable[[str | None], Page[T]]) -> Iterator[T]:
    page = fetch(None)
    yield from page.items
    while page.next_cursor is not None:
        page = fetch(page.next_cursor)
        yield from page.items
