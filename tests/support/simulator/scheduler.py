"""Schedules tasks of simulated processes on greenlets, under one virtual clock.

A task runs until it sleeps, waits or ends, or until the choices interrupt it at one of its points. When a process dies,
its tasks are never resumed, and its unfinished work stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from greenlet import GreenletExit, getcurrent, greenlet

from simulator.choices import Choices, Deviation

# Duration of one step of a task.
STEP_S = 0.001


class NoRestError(Exception):
    """Raised when a history does not come to an end."""


@dataclass(eq=False)
class Process:
    """A simulated process.

    Attributes:
        name: for the trace.
        tasks: its unfinished tasks.
        alive: False once it has died; its tasks never run again.
        thawed_at_s: none of its tasks runs before this time.
        mortal: whether it may be frozen and killed.
        threads: how many threads it has started.
    """

    name: str
    tasks: list[Task] = field(default_factory=list)
    alive: bool = True
    thawed_at_s: float = 0.0
    mortal: bool = True
    threads: int = 0


@dataclass(eq=False)
class Task:
    """A thread of a simulated process.

    Attributes:
        points: how many points it has reached.
        wakes_at_s: it runs at this time or later.
        ready: it runs only when this holds, or at ``waits_until_s``.
        result, error: how it ended.
    """

    name: str
    process: Process
    greenlet: greenlet
    points: int = 0
    wakes_at_s: float = 0.0
    ready: Callable[[], bool] | None = None
    waits_until_s: float = float("inf")
    ended: bool = False
    result: Any = None
    error: BaseException | None = None
    turn: int = 0

    def is_over(self) -> bool:
        """Whether it ended or its process died."""
        return self.ended or not self.process.alive


class Scheduler:
    """Runs tasks, one at a time."""

    def __init__(self, choices: Choices, most_points: int) -> None:
        self._choices = choices
        self._most_points = most_points
        self._main = getcurrent()
        self._tasks: list[Task] = []
        self._by_greenlet: dict[greenlet, Task] = {}
        self._turns = 0
        self._over = False
        self._failure: BaseException | None = None
        self.points = 0
        self.now_s = 100.0
        self.restores = 0
        self.trace: list[str] = []
        self.counts = {"switch": 0, "freeze": 0, "kill": 0}

    @property
    def task(self) -> Task | None:
        """The running task; None outside of tasks."""
        return self._by_greenlet.get(getcurrent())

    def spawn(self, process: Process, name: str, run: Callable[[], Any]) -> Task:
        """A new task of a process."""

        def body() -> None:
            try:
                task.result = run()
            except GreenletExit:
                raise
            except BaseException as error:
                task.error = error
            task.ended = True
            self._tasks.remove(task)
            process.tasks.remove(task)

        task = Task(name, process, greenlet(body, self._main))
        self._turns += 1
        task.turn = self._turns
        process.tasks.append(task)
        self._tasks.append(task)
        self._by_greenlet[task.greenlet] = task
        return task

    def point(self, what: str) -> None:
        """A point at which another task may run first."""
        if self._over:
            raise GreenletExit
        task = self.task
        if task is None:
            return
        self._count(task)
        deviation = self._choices.at(task, self)
        if deviation is not None:
            self._deviate(task, deviation, what)

    def note(self, what: str) -> None:
        """Add a line to the trace."""
        task = self.task
        self.trace.append(f"{self.now_s - 100:8.3f}  {task.name if task is not None else 'world':<22} {what}")

    def sleep(self, seconds: float) -> None:
        """Suspend the task for this time."""
        task = self.task
        if task is None or self._over:
            self.point("")
            return
        task.wakes_at_s = self.now_s + seconds
        self._block(task)

    def wait(self, ready: Callable[[], bool], until_s: float = float("inf")) -> None:
        """Suspend the task until the condition holds or the time is reached."""
        task = self.task
        if task is None or self._over:
            if not ready():
                raise GreenletExit
            return
        if ready():
            return
        task.ready = ready
        task.waits_until_s = until_s
        self._block(task)

    def kill(self, process: Process) -> None:
        """Kill a process at its current point."""
        process.alive = False
        for task in process.tasks:
            self._tasks.remove(task)
        process.tasks = []
        current = self.task
        if current is not None and current.process is process:
            self._main.switch()

    def kill_all(self) -> None:
        """Kill all mortal processes except the calling one."""
        task = self.task
        for process in {each.process for each in self._tasks if each.process.mortal}:
            if task is None or process is not task.process:
                self.kill(process)

    def fail(self, error: BaseException) -> None:
        """End the history with this error."""
        if self._failure is None:
            self._failure = error
        if self.task is not None:
            self._main.switch()

    def run(self, rest: Callable[[], bool]) -> None:
        """Run tasks until the condition holds where a task blocks.

        Raises:
            NoRestError: when the history takes too many points, or no task can ever run again.
        """
        while not rest():
            task = self._first()
            if task is None:
                waiting = ", ".join(sorted(each.name for each in self._tasks))
                raise NoRestError(f"no task can run; {waiting} wait forever")
            self._resume(task)
            if self._failure is not None:
                raise self._failure

    def close(self) -> None:
        """Unwind the remaining tasks, without any effect."""
        self._over = True
        for remaining in list(self._by_greenlet):
            while not remaining.dead and remaining:
                remaining.throw(GreenletExit)
        self._by_greenlet.clear()

    def others(self, task: Task, now: bool) -> list[Task]:
        """The tasks that could run instead, now or once time has passed."""
        if now:
            return [other for other in self._tasks if other is not task and self._runs_from_s(other) <= self.now_s]
        return [other for other in self._tasks if other is not task and self._runs_from_s(other) != float("inf")]

    def _count(self, task: Task) -> None:
        self.now_s += STEP_S
        self.points += 1
        task.points += 1
        if self.points > self._most_points:
            self.fail(NoRestError(f"no rest after {self.points} steps"))

    def _deviate(self, task: Task, deviation: Deviation, what: str) -> None:
        if deviation.kind == "kill":
            self.note(f"killed before: {what}")
            self.counts["kill"] += 1
            self.kill(task.process)
            return
        if deviation.kind == "freeze":
            self.note(f"frozen for {deviation.argument} s before: {what}")
            self.counts["freeze"] += 1
            task.process.thawed_at_s = self.now_s + float(deviation.argument)
            self._main.switch()
            return
        other = next((each for each in self._tasks if each.name == deviation.argument), None)
        if other is not None and self._runs_from_s(other) != float("inf"):
            self.counts["switch"] += 1
            self._chosen = other
            self._main.switch()

    _chosen: Task | None = None

    def _block(self, task: Task) -> None:
        self._count(task)
        deviation = self._choices.at(task, self, blocked=True)
        if deviation is not None and deviation.kind == "switch":
            self._deviate(task, deviation, "")
        else:
            self._main.switch()

    def _runs_from_s(self, task: Task) -> float:
        if task.ready is not None and not task.ready():
            return max(task.waits_until_s, task.process.thawed_at_s)
        return max(task.wakes_at_s, task.process.thawed_at_s)

    def _first(self) -> Task | None:
        """The chosen task; otherwise the task that can run earliest, and of several the one that has waited longest."""
        chosen, self._chosen = self._chosen, None
        if chosen is not None and chosen in self._tasks and self._runs_from_s(chosen) != float("inf"):
            return chosen
        best: tuple[float, int] | None = None
        first: Task | None = None
        for task in self._tasks:
            key = (max(self._runs_from_s(task), self.now_s), task.turn)
            if key[0] != float("inf") and (best is None or key < best):
                best, first = key, task
        return first

    def _resume(self, task: Task) -> None:
        self.now_s = max(self.now_s, self._runs_from_s(task))
        task.ready = None
        task.wakes_at_s = 0.0
        self._turns += 1
        task.turn = self._turns
        task.greenlet.switch()
        if task.ended:
            self._by_greenlet.pop(task.greenlet, None)
