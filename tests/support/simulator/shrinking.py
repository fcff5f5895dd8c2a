"""Shortens a failing history as far as it still fails in the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from simulator.choices import Deviation
from simulator.history import Outcome, run_again
from simulator.plan import Delete, Event, Ingest, Plan, Serve
from simulator.seams import Current

T = TypeVar("T")


def shrunk(current: Current, outcome: Outcome, max_runs: int = 3000) -> Outcome:
    """A shorter history that violates the same invariant."""
    best = outcome
    remaining = max_runs

    def fails(candidate: Plan, deviations: Sequence[Deviation]) -> bool:
        nonlocal best, remaining
        if remaining <= 0:
            return False
        remaining -= 1
        tried = run_again(current, candidate, tuple(deviations))
        if tried.kind != outcome.kind:
            return False
        best = tried
        return True

    before = None
    while before != (best.plan, best.deviations) and remaining > 0:
        before = (best.plan, best.deviations)
        _fewer(best.plan.events[1:], lambda events: fails(_with(best.plan, events), best.deviations))
        _fewer(best.deviations, lambda deviations: fails(best.plan, deviations))
        _fewer(best.plan.first, lambda first: fails(replace(best.plan, first=tuple(first)), best.deviations))
        for index, event in enumerate(best.plan.events):
            for simpler in _simpler(event):
                events = [*best.plan.events[:index], simpler, *best.plan.events[index + 1 :]]
                if fails(replace(best.plan, events=tuple(events)), best.deviations):
                    break
        for plan in _simpler_stores(best.plan):
            fails(plan, best.deviations)
    return best


def _with(plan: Plan, events: Sequence[Event]) -> Plan:
    return replace(plan, events=(plan.events[0], *events))


def _fewer(values: Sequence[T], fails: Callable[[Sequence[T]], bool]) -> None:
    """Leave out parts, large ones first, as long as the history still fails."""
    values = list(values)
    size = len(values)
    while size >= 1:
        start = 0
        while start < len(values):
            fewer = values[:start] + values[start + size :]
            if fails(fewer):
                values = fewer
            else:
                start += size
        size //= 2


def _simpler(event: Event) -> Iterator[Event]:
    if event.at_s:
        yield replace(event, at_s=0.0)
    match event:
        case Ingest():
            yield from (
                replace(event, rows=event.rows[:position] + event.rows[position + 1 :])
                for position in range(len(event.rows))
                if len(event.rows) > 1
            )
            if event.objects > 1:
                yield replace(event, objects=1)
            if event.force:
                yield replace(event, force=False)
            if event.again:
                yield replace(event, again=False)
        case Delete():
            if event.previewed:
                yield replace(event, previewed=False)
            if len(event.samples) + len(event.subjects) > 1:
                yield from (
                    replace(event, samples=event.samples[:position] + event.samples[position + 1 :])
                    for position in range(len(event.samples))
                )
                if event.subjects:
                    yield replace(event, subjects=())
        case Serve():
            if event.answers > 1:
                yield replace(event, answers=event.answers - 1)


def _simpler_stores(plan: Plan) -> Iterator[Plan]:
    if plan.min_tuned_rows != 1000:
        yield replace(plan, min_tuned_rows=1000)
    if plan.max_cluster_rows != 300:
        yield replace(plan, max_cluster_rows=300)
    if plan.slots != 1:
        yield replace(plan, slots=1)
