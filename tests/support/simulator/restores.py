"""A disaster: the store is lost, an older copy is put in its place, and the mirrored log is applied to it."""

from __future__ import annotations

from collections.abc import Callable

from actors.restoring import restore
from lmeraser.errors import LMEraserError
from lmeraser.proof.mirror import LogMirror
from simulator.coordinators import CoordinatorActor
from simulator.invariants import Invariants, WrongError
from simulator.ledger import Ledger
from simulator.plan import Restore
from simulator.rows import HASH_KEY, SIGNING_KEY
from simulator.scheduler import Process, Scheduler
from simulator.store import MemoryStore

_ATTEMPTS = 8


class Disaster:
    """Copies, mirrors, loses and restores the store."""

    def __init__(
        self,
        scheduler: Scheduler,
        store: MemoryStore,
        ledger: Ledger,
        invariants: Invariants,
        coordinators: list[CoordinatorActor],
        start: Callable[[str], None],
    ) -> None:
        self._scheduler = scheduler
        self._store = store
        self._ledger = ledger
        self._invariants = invariants
        self._coordinators = coordinators
        self._start = start

    def happen(self, event: Restore) -> None:
        """Copy the store; after a while mirror its log; after another lose it, restore the copy, and continue."""
        if self._ledger.commit is None:
            return
        copy, copied_at = dict(self._store.objects), self._scheduler.points
        self._scheduler.note("the store is copied")
        self._scheduler.sleep(event.mirrored_s)
        mirror = MemoryStore("mirror:", {}, self._scheduler, lambda *_: None)
        LogMirror(self._store, mirror).copy()
        records = sum(name.startswith("log/") for name in mirror.objects)
        self._scheduler.note(f"{records} records are mirrored")
        self._scheduler.sleep(event.lost_s)
        self._scheduler.note("the store is lost")
        for coordinator in self._coordinators:
            coordinator.ended = True
        self._scheduler.kill_all()
        self._store.objects, self._store.partial = copy, {}
        self._ledger.forget(records, copied_at)
        for _ in range(_ATTEMPTS):
            process = Process(f"{event.name}restore")
            self._scheduler.restores += 1
            task = self._scheduler.spawn(
                process, f"{process.name}{self._scheduler.restores}", lambda: self._restore(mirror)
            )
            self._scheduler.wait(task.is_over)
            if task.ended and task.error is None:
                break
            if task.error is not None and not isinstance(task.error, LMEraserError):
                raise task.error
            self._scheduler.note(f"the restore ended: {task.error}")
        else:
            self._scheduler.fail(WrongError("restore", f"it did not succeed, {_ATTEMPTS} times over"))
        self._invariants.restored()
        self._start(f"{event.name}reg")

    def _restore(self, mirror: MemoryStore) -> None:
        done = restore(self._store, mirror, HASH_KEY, SIGNING_KEY)
        self._scheduler.note(f"restored: {done.records} records, {done.erased} rows erased")
