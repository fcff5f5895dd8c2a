"""A store in which one can try out what would be written: what is written stays in memory, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lmeraser.errors import LostRaceError
from lmeraser.store import Fence, Store


class ScratchStore:
    """Another store to read from, and memory to write to. What is in memory comes first."""

    def __init__(self, store: Store, keeps: Callable[[str], bool]) -> None:
        """An empty memory over ``store``.

        Args:
            store: read where the memory has nothing.
            keeps: whether an object of this name will be read again; others are dropped when they are written.
        """
        self.uri = store.uri
        self._store = store
        self._keeps = keeps
        self._written: dict[str, bytes] = {}

    def get(self, name: str) -> bytes:
        return self._written[name] if name in self._written else self._store.get(name)

    def put(self, name: str, data: bytes) -> None:
        if self._keeps(name):
            self._written[name] = data

    def put_if_absent(self, name: str, data: bytes) -> None:
        if self.exists(name):
            raise LostRaceError(f"{name} exists already")
        self.put(name, data)

    def exists(self, name: str) -> bool:
        return name in self._written or self._store.exists(name)

    def names(self, prefix: str = "") -> list[str]:
        written = (name for name in self._written if name.startswith(prefix))
        return sorted({*self._store.names(prefix), *written})

    def purge(self, name: str, fence: Fence) -> None:
        fence()
        self._written.pop(name, None)

    def purge_below(self, prefix: str, keep: Callable[[str], bool], fence: Fence) -> None:
        for name in [name for name in self._written if name.startswith(prefix) and not keep(name)]:
            self.purge(name, fence)

    def purge_partial(self, keep: Callable[[str], bool], fence: Fence) -> None:
        """There are no unfinished writes."""

    def kept(self) -> Iterator[tuple[str, bytes | None]]:
        yield from self._written.items()

    def below(self, folder: str) -> ScratchStore:
        return ScratchStore(self._store.below(folder), self._keeps)

    def check(self) -> None:
        self._store.check()
