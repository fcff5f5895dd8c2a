"""A store in memory. Before and after each effect another task may run, and a write may be left half done."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lmeraser.errors import LostRaceError, ObjectMissingError, StoreError
from lmeraser.store import Fence
from simulator.scheduler import Scheduler

Watch = Callable[[str, str, bytes | None], None]


class MemoryStore:
    """Like a folder: a write is first a partial file, which is then linked or moved into place."""

    def __init__(self, uri: str, objects: dict[str, bytes], scheduler: Scheduler, watch: Watch) -> None:
        """A store over these objects; ``watch`` is called for each that was put or removed, with its verb and bytes."""
        self.uri = uri
        self.objects = objects
        self.partial: dict[tuple[str, int], bytes] = {}
        self._scheduler = scheduler
        self._watch = watch
        self._writes = 0

    def get(self, name: str) -> bytes:
        self._scheduler.point(f"get {name}")
        try:
            return self.objects[name]
        except KeyError:
            raise ObjectMissingError(f"{self.uri} has no object {name}") from None

    def put(self, name: str, data: bytes) -> None:
        self._publish(name, self._begun(name, data))
        self._scheduler.point(f"after put {name}")

    def put_if_absent(self, name: str, data: bytes) -> None:
        partial = self._begun(name, data)
        if name in self.objects:
            self.partial.pop(partial, None)
            self._watch("purged partial", name, None)
            raise LostRaceError(f"{name} in {self.uri} was written by another process first")
        self._publish(name, partial)
        self._scheduler.point(f"after put {name}")

    def below(self, folder: str) -> MemoryStore:
        raise AssertionError(f"no history rebuilds its store: {folder}")

    def exists(self, name: str) -> bool:
        self._scheduler.point(f"exists {name}")
        return name in self.objects

    def names(self, prefix: str = "") -> list[str]:
        self._scheduler.point(f"list {prefix}")
        return sorted(name for name in self.objects if name.startswith(prefix))

    def purge(self, name: str, fence: Fence) -> None:
        if self.exists(name):
            fence()
            self._remove(name)

    def purge_below(self, prefix: str, keep: Callable[[str], bool], fence: Fence) -> None:
        doomed = [name for name in self.names(prefix) if not keep(name)]
        if not doomed:
            return
        fence()
        for name in doomed:
            self._remove(name)
        remaining = sorted(set(doomed).intersection(self.names(prefix)))
        if remaining:
            raise StoreError(
                f"{len(remaining)} object(s) are still listed in {self.uri} after the purge, such as {remaining[0]}"
            )

    def purge_partial(self, keep: Callable[[str], bool], fence: Fence) -> None:
        self._scheduler.point("list partial")
        doomed = [partial for partial in list(self.partial) if not keep(partial[0])]
        if doomed:
            fence()
        for partial in doomed:
            self._scheduler.point(f"purge partial {partial[0]}")
            if self.partial.pop(partial, None) is not None:
                self._watch("purged partial", partial[0], None)

    def kept(self) -> Iterator[tuple[str, bytes | None]]:
        yield from self.objects.items()
        yield from ((f".partial/{name}", data) for (name, _), data in self.partial.items())

    def check(self) -> None:
        pass

    def _begun(self, name: str, data: bytes) -> tuple[str, int]:
        self._scheduler.point(f"write {name}")
        self._writes += 1
        partial = (name, self._writes)
        self.partial[partial] = data
        self._watch("write", name, data)
        self._scheduler.point(f"put {name}")
        return partial

    def _publish(self, name: str, partial: tuple[str, int]) -> None:
        data = self.partial.pop(partial, None)
        if data is None:
            raise StoreError(f"cannot write {name} in {self.uri}: No such file or directory")
        self.objects[name] = data
        self._watch("put", name, data)

    def _remove(self, name: str) -> None:
        self._scheduler.point(f"purge {name}")
        if self.objects.pop(name, None) is not None:
            self._watch("purged", name, None)
