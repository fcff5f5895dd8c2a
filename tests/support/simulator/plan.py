"""The plan of a history: its actors, their actions, and when each begins. Drawn from a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

from simulator.choices import Rates
from simulator.rows import PEOPLE, ROWS, Row

Ending = Literal["complete", "abandon", "silent"]


@dataclass(frozen=True)
class Start:
    """A coordinator starts on its own Ray cluster, and replaces the current one."""

    name: str
    at_s: float


@dataclass(frozen=True)
class Delete:
    """A client requests a deletion; where ``previewed``, it previews it first and asks for exactly that."""

    name: str
    at_s: float
    cluster: int
    samples: tuple[int, ...]
    subjects: tuple[str, ...]
    previewed: bool = False


@dataclass(frozen=True)
class Require:
    """Deletions that are requested from now on need an approval."""

    name: str
    at_s: float
    cluster: int


@dataclass(frozen=True)
class Decide:
    """An officer approves or declines the deletion of this name, if it waits for that by then."""

    name: str
    at_s: float
    cluster: int
    deletion: str
    approves: bool


@dataclass(frozen=True)
class Ingest:
    """A client ingests rows, in this number of objects."""

    name: str
    at_s: float
    cluster: int
    rows: tuple[Row, ...]
    objects: int
    force: bool
    ending: Ending
    again: bool


@dataclass(frozen=True)
class Serve:
    """A replica answers this number of times."""

    name: str
    at_s: float
    answers: int


@dataclass(frozen=True)
class Restore:
    """The store is copied; its log is mirrored ``mirrored_s`` later; ``lost_s`` after that it is lost and restored."""

    name: str
    at_s: float
    mirrored_s: float
    lost_s: float


Event = Start | Delete | Require | Decide | Ingest | Serve | Restore


@dataclass(frozen=True)
class Plan:
    """A history without its choices.

    Attributes:
        max_cluster_rows, min_tuned_rows, slots: the store's settings, and how many tunings run at a time.
        first: rows of the store at the beginning.
    """

    max_cluster_rows: int
    min_tuned_rows: int
    slots: int
    first: tuple[Row, ...]
    events: tuple[Event, ...]


def draw_plan(generator: random.Random) -> Plan:
    """A plan."""
    moments = [0.0, 0.0, 0.0, 0.1, 0.3, 0.6, 1.0, 2.0]
    first = tuple(Row(number) for number in range(generator.choice((0, 4, 6, 6, 8))))
    events: list[Event] = [Start("reg0", 0.0)]
    events += (
        Start(f"reg{number}", generator.choice(moments)) for number in range(1, generator.choice((1, 1, 2, 2, 3)))
    )
    clusters = len(events)
    for number in range(generator.choice((0, 1, 1, 2, 2, 3))):
        samples = tuple(sorted(generator.sample(range(ROWS), generator.choice((0, 1, 1, 2)))))
        subjects = tuple(sorted(generator.sample(PEOPLE, 0 if samples and generator.random() < 0.6 else 1)))
        at_s = generator.choice(moments)
        previewed = generator.random() < 0.3
        events.append(Delete(f"del{number}", at_s, generator.randrange(clusters), samples, subjects, previewed))
    if generator.random() < 0.3:
        events.append(Require("req0", generator.choice(moments[:4]), generator.randrange(clusters)))
        events += (
            Decide(
                f"dec{number}",
                generator.choice(moments),
                generator.randrange(clusters),
                each.name,
                generator.random() < 0.75,
            )
            for number, each in enumerate([each for each in events if isinstance(each, Delete)])
        )
    for number in range(generator.choice((0, 1, 1, 1, 2, 2, 3))):
        rows = tuple(
            Row(number, int(generator.random() < 0.1))
            for number in sorted(generator.sample(range(ROWS), generator.choice((1, 2, 3, 5))))
        )
        events.append(
            Ingest(
                f"ing{number}",
                generator.choice(moments),
                generator.randrange(clusters),
                rows,
                generator.choice((1, 1, 2)),
                generator.random() < 0.35,
                generator.choice(("complete", "complete", "complete", "abandon", "silent")),
                generator.random() < 0.5,
            )
        )
    events += (
        Serve(f"rep{number}", generator.choice(moments), 5) for number in range(generator.choice((0, 0, 1, 1, 2)))
    )
    if first and generator.random() < 0.15:
        events.append(Restore("res0", *(generator.choice(moments) for _ in range(3))))
    return Plan(
        max_cluster_rows=generator.choice((3, 3, 5, 300)),
        min_tuned_rows=generator.choice((2, 3, 1000)),
        slots=generator.choice((1, 2)),
        first=first,
        events=tuple(events),
    )


def draw_rates(generator: random.Random) -> Rates:
    """How often the choices interrupt tasks."""
    return Rates(
        switch=generator.choice((0.01, 0.03, 0.1, 0.3)),
        freeze=generator.choice((0.0, 0.0, 0.002, 0.01)),
        kill=generator.choice((0.0, 0.0, 0.002, 0.01)),
        most_kills=generator.choice((1, 2, 3)),
        pass_time=generator.choice((0.0, 0.2, 0.6)),
    )
