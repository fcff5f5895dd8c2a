"""Who runs when: tasks of simulated processes take turns on greenlets, under one virtual clock.

A task goes on until the choices say otherwise at one of its points, or until it sleeps, waits or ends. A process that
dies is one whose tasks are never resumed: what it had half done stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from greenlet import GreenletExit, getcurrent, greenlet

from simulator.choices import Choices, Deviation

# What one step of a task takes.
STEP_S = 0.001


class NoRestError(Exception):
    """Raised when a history does not come to an end."""


@dataclass(eq=False)
class Process:
    """A simulated process.

    Attributes:
        name: for the trace.
        tasks: those that have not ended.
        alive: False once it has died; nothing of it runs any more.
        thawed_at_s: until then none of its tasks runs.
        mortal: whether it may be frozen and killed.
        threads: how many it has started.
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
        points: how many points it has come to.
        wakes_at_s: it runs no earlier.
        ready: it runs only when this holds, or once ``waits_until_s`` has come.
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
        """The task that runs now; None outside."""
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
        """A place at which another task may run first."""
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
        """Have the task go on no earlier than that."""
        task = self.task
        if task is None or self._over:
            self.point("")
            return
        task.wakes_at_s = self.now_s + seconds
        self._block(task)

    def wait(self, ready: Callable[[], bool], until_s: float = float("inf")) -> None:
        """Have the task go on once the condition holds, or the time has come."""
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
        """End a process where it is; it has no say."""
        process.alive = False
        for task in process.tasks:
            self._tasks.remove(task)
        process.tasks = []
        current = self.task
        if current is not None and current.process is process:
            self._main.switch()

    def kill_all(self) -> None:
        """End all processes that may die, but for the one that calls."""
        task = self.task
        for process in {one.process for one in self._tasks if one.process.mortal}:
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
                waiting = ", ".join(sorted(one.name for one in self._tasks))
                raise NoRestError(f"nothing can run any more; {waiting} wait for ever")
            self._resume(task)
            if self._failure is not None:
                raise self._failure

    def close(self) -> None:
        """Unwind what is left, without any effect."""
        self._over = True
        for one in list(self._by_greenlet):
            while not one.dead and one:
                one.throw(GreenletExit)
        self._by_greenlet.clear()

    def others(self, task: Task, now: bool) -> list[Task]:
        """The tasks that could run instead, now or once time has passed."""
        if now:
            return [one for one in self._tasks if one is not task and self._runs_from_s(one) <= self.now_s]
        return [one for one in self._tasks if one is not task and self._runs_from_s(one) != float("inf")]

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
        other = next((one for one in self._tasks if one.name == deviation.argument), None)
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
        """The chosen one; else the one that waits longest; where none can run now, the one that can run first."""
        chosen, self._chosen = self._chosen, None
        if chosen is not None and chosen in self._tasks and self._runs_from_s(chosen) != float("inf"):
            return chosen
        best: tuple[float, int] | None = None
        found: Task | None = None
        for task in self._tasks:
            key = (max(self._runs_from_s(task), self.now_s), task.turn)
            if key[0] != float("inf") and (best is None or key < best):
                best, found = key, task
        return found

    def _resume(self, task: Task) -> None:
        self.now_s = max(self.now_s, self._runs_from_s(task))
        task.ready = None
        task.wakes_at_s = 0.0
        self._turns += 1
        task.turn = self._turns
        task.greenlet.switch()
        if task.ended:
            self._by_greenlet.pop(task.greenlet, None)
