"""The choices of a history: points at which a task does not continue. Drawn from a seed, or replayed."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from simulator.scheduler import Scheduler, Task

FREEZES_S = ("0.05", "0.5", "3", "100")


@dataclass(frozen=True)
class Deviation:
    """At the ``point``-th point of a task: run another task, or freeze or kill its process.

    Attributes:
        argument: the other task's name, or for how many seconds it is frozen.
    """

    task: str
    point: int
    kind: Literal["switch", "freeze", "kill"]
    argument: str = ""


class Choices(Protocol):
    """Decides what happens at each point."""

    def at(self, task: Task, scheduler: Scheduler, blocked: bool = False) -> Deviation | None:
        """What happens at this point of the task; None if it continues, or the next task runs."""


@dataclass(frozen=True)
class Rates:
    """How often a point is a switch, a freeze or a kill; and how often a switch lets time pass."""

    switch: float
    freeze: float
    kill: float
    most_kills: int
    pass_time: float


class DrawnChoices:
    """Choices from a seed, recorded."""

    def __init__(self, generator: random.Random, rates: Rates) -> None:
        self._random = generator
        self._rates = rates
        self._kills = 0
        self.made: list[Deviation] = []

    def at(self, task: Task, scheduler: Scheduler, blocked: bool = False) -> Deviation | None:
        drawn = self._random.random()
        deviation = None
        if drawn < self._rates.switch:
            deviation = self._switch(task, scheduler)
        elif blocked or not task.process.mortal:
            return None
        elif drawn < self._rates.switch + self._rates.freeze:
            deviation = Deviation(task.name, task.points, "freeze", self._random.choice(FREEZES_S))
        elif (
            drawn < self._rates.switch + self._rates.freeze + self._rates.kill and self._kills < self._rates.most_kills
        ):
            self._kills += 1
            deviation = Deviation(task.name, task.points, "kill")
        if deviation is not None:
            self.made.append(deviation)
        return deviation

    def _switch(self, task: Task, scheduler: Scheduler) -> Deviation | None:
        others = scheduler.others(task, now=self._random.random() >= self._rates.pass_time)
        if not others:
            return None
        return Deviation(task.name, task.points, "switch", self._random.choice(others).name)


class ReplayedChoices:
    """Choices of an earlier history."""

    def __init__(self, deviations: Iterable[Deviation]) -> None:
        self._at = {(deviation.task, deviation.point): deviation for deviation in deviations}

    def at(self, task: Task, scheduler: Scheduler, blocked: bool = False) -> Deviation | None:  # noqa: ARG002
        return self._at.get((task.name, task.points))
