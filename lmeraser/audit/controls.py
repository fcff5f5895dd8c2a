"""Section on the audit itself: deletions that are faked in copies of the store, each of which it must catch."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path

from lmeraser.audit.evidence import Evidence
from lmeraser.audit.report import Section, Table, not_done, section
from lmeraser.audit.sections import Question, sections_of
from lmeraser.audit.tampering import TAMPERINGS, Scenario, Tampering, choose_scenario, tamper
from lmeraser.audit.targets import Plan
from lmeraser.errors import FingerprintError, NotReadyError, ObjectCorruptError, ObjectMissingError
from lmeraser.progress import Progress
from lmeraser.state.pipeline_loading import load_pipeline

NAME, TITLE = "controls", "Would this audit see a deletion that is faked?"


def controls(evidence: Evidence, plan: Plan, workers: Executor, report: Progress | None) -> Section:
    """Fake one deletion in every known way, and audit each fake."""
    try:
        scenario = choose_scenario(evidence, load_pipeline(evidence.store, evidence.manifest))
    except (FingerprintError, NotReadyError, ObjectMissingError, ObjectCorruptError) as error:
        return not_done(NAME, TITLE, str(error))
    caught: dict[Tampering, tuple[str, ...]] = {}
    for tampering in TAMPERINGS:
        caught[tampering] = caught_by(scenario, tampering, plan, workers)
        if report is not None:
            report("faked deletions", len(caught), len(TAMPERINGS))
    missed = [tampering for tampering, names in caught.items() if tampering != "honest" and not names]
    findings = [f"{tampering}: no section saw it" for tampering in missed]
    if caught["honest"]:
        findings.append(f"an honest deletion was taken for a fake by {', '.join(caught['honest'])}")
    rows = tuple((tampering, ", ".join(names) or "-") for tampering, names in caught.items())
    return section(
        NAME,
        TITLE,
        findings,
        said=(
            f"One row of cluster {scenario.entry.key} was deleted in {len(TAMPERINGS)} copies of the store: once "
            "honestly, and once with each kind of tampering, by someone who has all keys. In every copy the log's "
            "chain, the state roots and the signature are valid.",
        ),
        tables=(Table(("tampering", "seen by"), rows),),
        figures={"caught_by": _listed(caught)},
    )


def caught_by(scenario: Scenario, tampering: Tampering, plan: Plan, workers: Executor) -> tuple[str, ...]:
    """Names of the sections that fail on a deletion that is faked in this way."""
    with tempfile.TemporaryDirectory(prefix="lmeraser-control-") as folder:
        tampered = tamper(scenario, tampering, Path(folder))
        question = Question(
            requests=(tampered.audited[0].id,),
            ids=(scenario.sample.sample_id,),
            source=(scenario.sample,),
            plan=replace(plan, worlds=0),
        )
        return tuple(each.name for each in sections_of(tampered, question, workers) if each.status == "failed")


def _listed(caught: Mapping[Tampering, tuple[str, ...]]) -> dict[str, list[str]]:
    return {tampering: list(names) for tampering, names in caught.items()}
