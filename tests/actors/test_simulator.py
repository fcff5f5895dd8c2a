"""Coordinators, owners, ingests, deletions, replicas and restores over one store, on the deterministic simulator.

``tests/faults/histories.py`` runs many more histories; the README of what is simulated is ``docs/evidence/README.md``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from itertools import chain

import pytest
from simulator.breakages import BREAKAGES, broken
from simulator.history import Outcome, run_again, run_plan, run_seed
from simulator.saved_histories import SAVED_HISTORIES
from simulator.saved_history import SavedHistory
from simulator.seams import Current, seams
from simulator.shrinking import shrunk

HISTORIES = int(os.environ.get("LMERASER_HISTORIES", "1000"))
PART = 50
OTHER_CHOICES = 500


@pytest.fixture
def current() -> Iterator[Current]:
    logging.disable(logging.CRITICAL)
    with seams() as current:
        yield current
    logging.disable(logging.NOTSET)


def description(outcome: Outcome) -> str:
    return "\n".join(("", outcome.wrong or "", *outcome.trace, repr(outcome.plan), repr(outcome.deviations)))


def test_a_seed_gives_the_same_history_again(current: Current) -> None:
    first, second = run_seed(current, 17), run_seed(current, 17)
    assert first.trace == second.trace
    assert run_again(current, first.plan, first.deviations).trace == first.trace


@pytest.mark.parametrize("saved", SAVED_HISTORIES, ids=lambda saved: saved.what)
def test_a_saved_history_succeeds_on_intact_code(current: Current, saved: SavedHistory) -> None:
    outcome = run_again(current, saved.plan, saved.deviations)
    assert outcome.wrong is None, description(outcome)


@pytest.mark.parametrize("saved", SAVED_HISTORIES, ids=lambda saved: saved.what)
def test_the_simulator_notices_broken_code(current: Current, saved: SavedHistory) -> None:
    """Where the code has changed, the same choices happen at other moments, so others are tried too."""
    with broken(saved.breakage):
        tried = chain(
            [run_again(current, saved.plan, saved.deviations)],
            (run_plan(current, saved.plan, seed) for seed in range(OTHER_CHOICES)),
        )
        assert any(outcome.kind == saved.kind for outcome in tried)


def test_each_breakage_has_a_history_that_detects_it() -> None:
    assert {saved.what for saved in SAVED_HISTORIES} == {breakage.what for breakage in BREAKAGES}


@pytest.mark.slow
@pytest.mark.parametrize("part", range(0, HISTORIES, PART))
def test_after_any_history_erased_rows_are_gone_and_nothing_else_is_lost(current: Current, part: int) -> None:
    for seed in range(part, min(part + PART, HISTORIES)):
        outcome = run_seed(current, seed)
        if outcome.wrong is not None:
            pytest.fail(f"seed {seed}, shrunk: {description(shrunk(current, outcome))}")
