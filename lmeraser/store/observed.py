"""A store whose calls are observed, for metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from lmeraser.errors import LostRaceError, ObjectMissingError
from lmeraser.store import Fence, Store

T = TypeVar("T")


@dataclass(frozen=True)
class StoreCall:
    """A call that has ended.

    Attributes:
        operation: the method of the store.
        name: the object, or the prefix of several.
        seconds: how long it took.
        failed: whether it raised. A missing object and a lost race are answers, not failures.
    """

    operation: str
    name: str
    seconds: float
    failed: bool = False


class ObservedStore:
    """Another store, with an observer that gets each call. The observer must not raise."""

    def __init__(self, store: Store, observe: Callable[[StoreCall], None]) -> None:
        self._store = store
        self._observe = observe
        self.uri = store.uri

    def get(self, name: str) -> bytes:
        return self._call("get", name, lambda: self._store.get(name))

    def put(self, name: str, data: bytes) -> None:
        self._call("put", name, lambda: self._store.put(name, data))

    def put_if_absent(self, name: str, data: bytes) -> None:
        self._call("put_if_absent", name, lambda: self._store.put_if_absent(name, data))

    def exists(self, name: str) -> bool:
        return self._call("exists", name, lambda: self._store.exists(name))

    def names(self, prefix: str = "") -> list[str]:
        return self._call("names", prefix, lambda: self._store.names(prefix))

    def purge(self, name: str, fence: Fence) -> None:
        self._call("purge", name, lambda: self._store.purge(name, fence))

    def purge_below(self, prefix: str, keep: Callable[[str], bool], fence: Fence) -> None:
        self._call("purge_below", prefix, lambda: self._store.purge_below(prefix, keep, fence))

    def purge_partial(self, keep: Callable[[str], bool], fence: Fence) -> None:
        self._call("purge_partial", "", lambda: self._store.purge_partial(keep, fence))

    def kept(self) -> Iterator[tuple[str, bytes | None]]:
        return self._store.kept()

    def below(self, folder: str) -> ObservedStore:
        return ObservedStore(self._store.below(folder), self._observe)

    def check(self) -> None:
        self._call("check", "", self._store.check)

    def _call(self, operation: str, name: str, call: Callable[[], T]) -> T:
        begun_s = time.perf_counter()
        failed = False
        try:
            return call()
        except Exception as error:
            failed = not isinstance(error, ObjectMissingError | LostRaceError)
            raise
        finally:
            self._observe(StoreCall(operation, name, time.perf_counter() - begun_s, failed))
