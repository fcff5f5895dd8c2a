"""Faked deletions: which section of an audit sees which tampering."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor

import pytest
from small_system import System

from lmeraser.audit import Plan
from lmeraser.audit.controls import caught_by, controls
from lmeraser.audit.evidence import read_evidence
from lmeraser.audit.tampering import TAMPERINGS, Scenario, Tampering, choose_scenario
from lmeraser.proof.recompute import use_in_worker
from lmeraser.state.keys import load_signing_key

PLAN = Plan(worlds=0, targets=8, clusters=2, specialist_weight=0.5, temperature=2.0)
SEEN_BY: dict[Tampering, set[str]] = {
    "honest": set(),
    "row kept in the head statistics only": {"recomputation", "answers"},
    "old prompt served": {"recomputation", "answers"},
    "row kept in another cluster's file": {"rows", "recomputation", "residue", "answers"},
    "prompt fine-tuned instead of tuned again": {"recomputation", "answers"},
    "row kept in the prompted features": {"recomputation", "answers"},
    "coreset not filled up": {"recomputation", "answers"},
    "request recorded but rows kept": {"receipts", "rows", "residue", "answers"},
}


@pytest.fixture(scope="module")
def scenario(built: Callable[[str, int], System]) -> Scenario:
    system = built("token", 90)
    key = load_signing_key(system.keys).public_key()
    evidence = read_evidence(system.store, system.manifest, system.hash_key, key, [])
    return choose_scenario(evidence, system.pipeline())


@pytest.fixture(scope="module")
def workers(scenario: Scenario) -> Iterator[Executor]:
    """A thread in place of a process, which would take long to start."""
    with ThreadPoolExecutor(1, initializer=use_in_worker, initargs=(scenario.pipeline,)) as threads:
        yield threads


@pytest.mark.slow
@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_each_tampering_is_seen_by_these_sections(scenario: Scenario, workers: Executor, tampering: Tampering) -> None:
    assert set(caught_by(scenario, tampering, PLAN, workers)) == SEEN_BY[tampering]


@pytest.mark.slow
def test_a_tampering_that_no_section_sees_fails_the_controls(
    scenario: Scenario, workers: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    blind = "request recorded but rows kept"
    seen = {tampering: () if tampering == blind else tuple(names) for tampering, names in SEEN_BY.items()}
    monkeypatch.setattr("lmeraser.audit.controls.caught_by", lambda _scene, tampering, _plan, _workers: seen[tampering])
    found = controls(scenario.evidence, PLAN, workers, None)
    assert (found.status, found.findings) == ("failed", (f"{blind}: no section saw it",))
