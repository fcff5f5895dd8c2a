"""Replaces ``threading`` and futures in the modules under test: a task that waits lets another task run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from simulator.scheduler import Scheduler, Task


class Lock:
    """A lock; a reentrant one may be taken again by the same task. Outside of a history it is always free."""

    def __init__(self, scheduler: Callable[[], Scheduler | None], reentrant: bool = False) -> None:
        self._scheduler = scheduler
        self._reentrant = reentrant
        self._holder: Task | None = None
        self._depth = 0

    def __enter__(self) -> Lock:
        scheduler = self._scheduler()
        if scheduler is None or scheduler.task is None:
            return self
        if self._reentrant and self._holder is scheduler.task:
            self._depth += 1
            return self
        scheduler.point("take a lock")
        scheduler.wait(lambda: self._depth == 0)
        self._holder, self._depth = scheduler.task, 1
        return self

    def __exit__(self, *_: object) -> None:
        scheduler = self._scheduler()
        if scheduler is not None and self._holder is scheduler.task:
            self._depth = max(0, self._depth - 1)


class Condition(Lock):
    """A condition variable with its own lock."""

    def __init__(self, scheduler: Callable[[], Scheduler | None]) -> None:
        super().__init__(scheduler)
        self._notifications = 0

    def notify_all(self) -> None:
        self._notifications += 1

    def wait(self, timeout: float | None = None) -> bool:
        scheduler = self._scheduler()
        assert scheduler is not None
        before = self._notifications
        self._depth = 0
        until_s = float("inf") if timeout is None else scheduler.now_s + timeout
        scheduler.wait(lambda: self._notifications > before, until_s)
        notified = self._notifications > before
        self.__enter__()
        return notified

    def wait_for(self, ready: Callable[[], bool], timeout: float | None = None) -> bool:
        scheduler = self._scheduler()
        assert scheduler is not None
        until_s = float("inf") if timeout is None else scheduler.now_s + timeout
        while not ready() and scheduler.now_s < until_s:
            self.wait(None if timeout is None else until_s - scheduler.now_s)
        return ready()


class Event:
    """An event."""

    def __init__(self, scheduler: Callable[[], Scheduler | None]) -> None:
        self._scheduler = scheduler
        self._set = False

    def set(self) -> None:
        self._set = True

    def wait(self, timeout: float | None = None) -> bool:
        scheduler = self._scheduler()
        assert scheduler is not None
        scheduler.wait(lambda: self._set, float("inf") if timeout is None else scheduler.now_s + timeout)
        return self._set


class Thread:
    """A thread: another task of the process that makes it."""

    def __init__(
        self,
        scheduler: Callable[[], Scheduler | None],
        target: Callable[[], None],
        name: str,
        daemon: bool,  # noqa: ARG002
    ) -> None:
        self._scheduler = scheduler
        self._target = target
        self._name = name

    def start(self) -> None:
        scheduler = self._scheduler()
        assert scheduler is not None and scheduler.task is not None
        process = scheduler.task.process
        process.threads += 1
        scheduler.spawn(process, f"{process.name}.{self._name}{process.threads}", self._target)


class SimulatedFuture:
    """A future."""

    def __init__(self, scheduler: Callable[[], Scheduler | None]) -> None:
        self._scheduler = scheduler
        self._done = False
        self._error: BaseException | None = None

    def set_result(self, _result: Any) -> None:
        self._done = True

    def set_exception(self, error: BaseException) -> None:
        self._done, self._error = True, error

    def exception(self) -> BaseException | None:
        scheduler = self._scheduler()
        assert scheduler is not None
        scheduler.wait(lambda: self._done)
        return self._error
