"""A coordinator in a process, as in ``actors.remote.coordinator_actor``: one thread works, and calls come on others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from actors.coordinator import Coordinator
from actors.owners import is_transient
from lmeraser.errors import FencedError
from lmeraser.state.manifest import load_manifest
from simulator.owners import Cluster, SimulatedOwners
from simulator.rows import HASH_KEY, LEASE_S, SIGNING_KEY, Ground
from simulator.scheduler import Process, Scheduler
from simulator.store import MemoryStore

IDLE_S = 0.02
LONGEST_PAUSE_S = 10.0
RESTART_PAUSE_S = 1.0
Unexpected = Callable[[Process, BaseException], None]


class DiedError(Exception):
    """Raised when a process ended during a call, whose effect may have happened."""


class CoordinatorActor:
    """The coordinator of one Ray cluster; it is restarted when it dies, unless it was replaced."""

    def __init__(
        self,
        scheduler: Scheduler,
        store: MemoryStore,
        ground: Ground,
        cluster: Cluster,
        slots: int,
        unexpected: Unexpected,
    ) -> None:
        """Start it; ``unexpected`` is called with its process and the error that ends it."""
        self._scheduler = scheduler
        self._store = store
        self._ground = ground
        self._cluster = cluster
        self._slots = slots
        self._unexpected = unexpected
        self._starts = 0
        self._calls = 0
        self._called = False
        self.steps = 0
        self.ended = False
        self.coordinator: Coordinator | None = None
        self.start()
        ray = Process(f"{cluster.name}.ray", mortal=False)
        scheduler.spawn(ray, ray.name, self._keep)

    def start(self) -> None:
        """Begin, or begin again, in a new process."""
        self._starts += 1
        self.coordinator = None
        self.process = process = Process(f"{self._cluster.name}#{self._starts}")
        self._scheduler.spawn(process, f"{process.name}.work", self._work)

    def idle(self) -> bool:
        """Whether it has nothing to do."""
        return self.ended or (self.coordinator is not None and self.process.alive and self.coordinator.idle())

    def call(self, verb: str, work: Callable[[Coordinator], Any]) -> Any:
        """Call a method of the coordinator, on a thread of its process.

        Raises:
            DiedError: when there is no process, or when it dies meanwhile.
        """
        process, coordinator = self.process, self.coordinator
        if coordinator is None or not process.alive:
            raise DiedError(process.name)
        self._calls += 1
        task = self._scheduler.spawn(process, f"{process.name}.{verb}{self._calls}", lambda: work(coordinator))
        self._scheduler.wait(lambda: task.ended or not process.alive)
        if not task.ended:
            raise DiedError(process.name)
        if task.error is not None:
            raise task.error
        self._called = True
        return task.result

    def _work(self) -> None:
        process = self.process
        try:
            load_manifest(self._store)
            owners = SimulatedOwners(self._scheduler, self._store, self._ground, self._cluster, self._slots)
            coordinator = Coordinator(self._store, self._ground.manifest, HASH_KEY, SIGNING_KEY, owners, LEASE_S)
        except Exception as error:
            self._scheduler.note(f"could not start: {type(error).__name__}: {error}")
            if is_transient(error):
                self._scheduler.kill(process)
            return self._end(process, None if isinstance(error, FencedError) else error)
        self.coordinator = coordinator
        pause_s = IDLE_S
        while True:
            try:
                working = coordinator.step()
                self.steps += 1
                pause_s = IDLE_S if working or not coordinator.idle() else min(2 * pause_s, LONGEST_PAUSE_S)
            except FencedError as error:
                self._scheduler.note(f"was replaced: {error}")
                return self._end(process, None)
            except Exception as error:
                self._scheduler.note(f"{type(error).__name__}: {error}")
                if is_transient(error):
                    self._scheduler.sleep(1.0)
                    continue
                self._unexpected(process, error)
                self._scheduler.kill(process)
            if working:
                self._scheduler.point("step")
            else:
                # The real pause is short; it grows here only to keep the simulation cheap.
                self._called = False
                self._scheduler.wait(lambda: self._called, self._scheduler.now_s + pause_s)

    def _keep(self) -> None:
        """As Ray does, restart a coordinator that died, unless it ended permanently."""
        while True:
            self._scheduler.wait(lambda: self.ended or not self.process.alive)
            if self.ended:
                return
            self._scheduler.sleep(RESTART_PAUSE_S)
            if not self.ended:
                self.start()

    def _end(self, process: Process, error: BaseException | None) -> None:
        self.ended = True
        if error is not None:
            self._unexpected(process, error)
        self._scheduler.kill(process)
