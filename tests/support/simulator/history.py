"""One history: a plan and its choices, run until everything is at rest, and checked."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache, partial

from simulator.choices import Choices, Deviation, DrawnChoices, ReplayedChoices
from simulator.clients import Clients
from simulator.coordinators import CoordinatorActor
from simulator.invariants import Invariants, WrongError
from simulator.ledger import Ingested, Ledger
from simulator.owners import Cluster
from simulator.plan import Decide, Delete, Event, Ingest, Plan, Require, Restore, Serve, Start, draw_plan, draw_rates
from simulator.restores import Disaster
from simulator.rows import Row, ground
from simulator.scheduler import NoRestError, Process, Scheduler, Task
from simulator.seams import Current
from simulator.store import MemoryStore

MAX_POINTS = 15_000
# An ingest that does not renew its prefix for a minute is dropped.
_CLOSING_S = 100.0


@dataclass
class Outcome:
    """How a history ended.

    Attributes:
        kind, wrong: the invariant that did not hold, and a message; None if all held.
        deviations: the choices that were made.
        trace: what happened, line by line.
        late: how many objects a replaced coordinator's owners wrote too late, which stayed until the next start.
    """

    plan: Plan
    deviations: tuple[Deviation, ...]
    kind: str | None = None
    wrong: str | None = None
    trace: tuple[str, ...] = ()
    points: int = 0
    switches: int = 0
    freezes: int = 0
    kills: int = 0
    late: int = 0


def run_seed(current: Current, seed: int) -> Outcome:
    """The history of a seed."""
    generator = random.Random(seed)
    plan = draw_plan(generator)
    return _drawn(current, plan, generator)


def run_plan(current: Current, plan: Plan, seed: int) -> Outcome:
    """The history of a known plan, with the choices of a seed."""
    return _drawn(current, plan, random.Random(seed))


def _drawn(current: Current, plan: Plan, generator: random.Random) -> Outcome:
    choices = DrawnChoices(generator, draw_rates(generator))
    outcome = _run(current, plan, choices)
    outcome.deviations = tuple(choices.made)
    return outcome


def run_again(current: Current, plan: Plan, deviations: Iterable[Deviation]) -> Outcome:
    """The history of a known plan and known choices."""
    outcome = _run(current, plan, ReplayedChoices(deviations))
    outcome.deviations = tuple(deviations)
    return outcome


def _run(current: Current, plan: Plan, choices: Choices) -> Outcome:
    objects = _begin(current, plan.max_cluster_rows, plan.min_tuned_rows, plan.first)
    scheduler = Scheduler(choices, MAX_POINTS)
    current.begin(scheduler, 1_000_000)
    world = World(scheduler, plan, dict(objects))
    return world.run()


@lru_cache(maxsize=64)
def _begin(current: Current, max_cluster_rows: int, min_tuned_rows: int, first: tuple[Row, ...]) -> dict[str, bytes]:
    """The objects of a store at rest that holds these rows."""
    objects = ground(max_cluster_rows, min_tuned_rows).objects
    if not first:
        return objects
    scheduler = Scheduler(ReplayedChoices(()), MAX_POINTS)
    current.begin(scheduler, 0)
    events = (Start("first", 0.0), Ingest("ingest", 0.0, 0, first, 1, False, "complete", False))
    world = World(scheduler, Plan(max_cluster_rows, min_tuned_rows, 1, (), events), dict(objects))
    outcome = world.run()
    assert outcome.wrong is None, (outcome.wrong, outcome.trace)
    return world.store.objects


class World:
    """Everything that takes part in a history."""

    def __init__(self, scheduler: Scheduler, plan: Plan, objects: dict[str, bytes]) -> None:
        self._scheduler = scheduler
        self._plan = plan
        self._ground = ground(plan.max_cluster_rows, plan.min_tuned_rows)
        self._ledger = Ledger()
        self._invariants = Invariants(scheduler, self._ground, self._ledger)
        self.store = MemoryStore("memory:", objects, scheduler, self._invariants.watch)
        self._invariants.store = self.store
        self._ledger.read((objects[name] for name in sorted(objects) if name.startswith("log/")), -1)
        self._ledger.ingested.append(Ingested(plan.first, False, succeeded=True))
        self._coordinators: list[CoordinatorActor] = []
        self._clients = Clients(scheduler, self.store, self._ground, self._ledger, self._invariants, self._coordinators)
        self._disaster = Disaster(
            scheduler, self.store, self._ledger, self._invariants, self._coordinators, self._start
        )
        self._late: set[str] = set()

    def run(self) -> Outcome:
        """Run it, and check the invariants."""
        outcome = Outcome(self._plan, ())
        starting = [event for event in self._plan.events if isinstance(event, Start)]
        self._start(starting[0].name)
        tasks = []
        for event in self._plan.events:
            if event is not starting[0]:
                mortal = isinstance(event, Ingest | Serve)
                process = Process(event.name, mortal=mortal)
                tasks.append(self._scheduler.spawn(process, event.name, partial(self._happen, event)))
        closing = Process("closing", mortal=False)
        close = self._scheduler.spawn(closing, "closing", lambda: self._close(tasks))
        try:
            self._scheduler.run(lambda: close.ended)
            if close.error is not None:
                raise close.error
            for task in tasks:
                if task.error is not None:
                    raise task.error
        except WrongError as error:
            outcome.kind, outcome.wrong = error.kind, str(error)
        except NoRestError as error:
            outcome.kind, outcome.wrong = "no rest", str(error)
        finally:
            self._scheduler.close()
        outcome.trace = tuple(self._scheduler.trace)
        outcome.points = self._scheduler.points
        counts = self._scheduler.counts
        outcome.switches, outcome.freezes, outcome.kills = counts["switch"], counts["freeze"], counts["kill"]
        outcome.late = len(self._late)
        return outcome

    def _happen(self, event: Event) -> None:
        if event.at_s:
            self._scheduler.sleep(event.at_s)
        match event:
            case Start():
                # A copy is not opened before it is restored.
                self._scheduler.wait(lambda: not self._ledger.restoring)
                self._start(event.name)
            case Delete():
                self._clients.delete(event)
            case Require():
                self._clients.require(event)
            case Decide():
                self._clients.decide(event)
            case Ingest():
                self._clients.ingest(event)
            case Serve():
                self._clients.serve(event)
            case Restore():
                self._disaster.happen(event)

    def _start(self, name: str) -> None:
        cluster = Cluster(name)
        self._coordinators.append(
            CoordinatorActor(
                self._scheduler, self.store, self._ground, cluster, self._plan.slots, self._invariants.unexpected
            )
        )

    def _close(self, tasks: list[Task]) -> None:
        """Wait until all is at rest, and check; have a new coordinator take over, and check again."""
        self._scheduler.wait(lambda: all(task.is_over() for task in tasks))
        self._await_rest()
        self._scheduler.sleep(_CLOSING_S)
        self._await_rest()
        self._late = set(self._invariants.late)
        if self._ledger.commit is not None:
            self._invariants.at_rest("at rest")
        self._start("last")
        self._await_rest()
        if self._ledger.commit is not None:
            self._invariants.at_rest("after a new start")

    def _await_rest(self) -> None:
        """Wait until every coordinator has looked for work and found none."""
        steps = {id(actor): actor.steps for actor in self._coordinators}
        self._scheduler.wait(
            lambda: all(
                actor.idle() and (actor.ended or actor.steps > steps[id(actor)] + 1) for actor in self._coordinators
            )
        )
