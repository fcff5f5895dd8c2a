"""Section on the audit itself: faked deletions in copies of the store, each of which it must catch."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path

from lmeraser.audit.evidence import Evidence
from lmeraser.audit.fakes import WAYS, Scenario, Way, fake, set_scene
from lmeraser.audit.report import Section, Table, not_done, section
from lmeraser.audit.sections import Question, sections_of
from lmeraser.audit.targets import Plan
from lmeraser.errors import FingerprintError, NotReadyError, ObjectCorruptError, ObjectMissingError
from lmeraser.progress import Progress
from lmeraser.state.public_artifacts import load_pipeline

NAME, TITLE = "controls", "Would this audit see a deletion that is faked?"


def controls(evidence: Evidence, plan: Plan, workers: Executor, report: Progress | None) -> Section:
    """Fake one deletion in every way, and audit each."""
    try:
        scene = set_scene(evidence, load_pipeline(evidence.store, evidence.manifest))
    except (FingerprintError, NotReadyError, ObjectMissingError, ObjectCorruptError) as error:
        return not_done(NAME, TITLE, str(error))
    caught: dict[Way, tuple[str, ...]] = {}
    for way in WAYS:
        caught[way] = caught_by(scene, way, plan, workers)
        if report is not None:
            report("faked deletions", len(caught), len(WAYS))
    findings = [f"{way}: no section saw it" for way, names in caught.items() if not names and way != "no lie"]
    if caught["no lie"]:
        findings.append(f"an honest deletion was taken for a fake by {', '.join(caught['no lie'])}")
    rows = tuple((way, ", ".join(names) or "-") for way, names in caught.items())
    return section(
        NAME,
        TITLE,
        findings,
        said=(
            f"One row of cluster {scene.entry.key} was deleted in {len(WAYS)} copies of the store, once honestly and "
            "else with one lie each, by someone who has all keys: the log, the roots and the signature hold.",
        ),
        tables=(Table(("the lie", "seen by"), rows),),
        figures={"caught_by": _listed(caught)},
    )


def caught_by(scene: Scenario, way: Way, plan: Plan, workers: Executor) -> tuple[str, ...]:
    """Names of the sections that fail on a deletion that is faked in this way."""
    with tempfile.TemporaryDirectory(prefix="lmeraser-control-") as folder:
        faked = fake(scene, way, Path(folder))
        question = Question(
            requests=(faked.asked[0].id,),
            ids=(scene.sample.sample_id,),
            source=(scene.sample,),
            plan=replace(plan, worlds=0),
        )
        return tuple(one.name for one in sections_of(faked, question, workers) if one.status == "failed")


def _listed(caught: Mapping[Way, tuple[str, ...]]) -> dict[str, list[str]]:
    return {way: list(names) for way, names in caught.items()}
