"""All sections of an audit of one store. The controls run them on stores in which a deletion is faked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from lmeraser.audit import answers, membership, recomputation, records, residue_section, rows_section
from lmeraser.audit.evidence import Evidence
from lmeraser.audit.report import Section, not_done, section
from lmeraser.audit.targets import AttackedCluster, Plan, attacked
from lmeraser.data import Sample
from lmeraser.errors import FingerprintError, ObjectCorruptError, ObjectMissingError
from lmeraser.hashing import sample_hash, subject_hash
from lmeraser.progress import Progress
from lmeraser.state.pipeline import Pipeline
from lmeraser.state.pipeline_loading import load_pipeline


@dataclass(frozen=True)
class Question:
    """What an audit is about.

    Attributes:
        requests: ids of the deletions.
        plan: of the attack on the answers.
        ids: sample and subject ids that they named, in clear; may be empty.
        source: rows that include the deleted ones, if the auditor has them; may be empty.
        folders: to scan for residue, besides all that the store keeps.
        known_head: digest of a log record that was noted at an earlier time.
    """

    requests: tuple[str, ...]
    plan: Plan
    ids: tuple[str, ...] = ()
    source: Sequence[Sample] = ()
    folders: tuple[Path, ...] = ()
    known_head: str | None = None


def sections_of(
    evidence: Evidence, question: Question, workers: Executor, report: Progress | None = None
) -> tuple[Section, ...]:
    """All sections, in the order of the report."""
    deleted = [row for row in question.source if evidence.covers(row.sample_id, row.subject_id)]
    return (
        records.requests(evidence),
        records.receipts(evidence),
        records.log(evidence, question.known_head),
        rows_section.rows(evidence),
        recomputation.recomputation(evidence, workers, report),
        residue_section.residue_section(evidence, question.folders, _ids(evidence, question.ids, deleted), deleted),
        *_attacks(evidence, deleted, question.plan, workers, report),
    )


def _attacks(
    evidence: Evidence, deleted: Sequence[Sample], plan: Plan, workers: Executor, report: Progress | None
) -> tuple[Section, Section]:
    """The sections that query the model itself."""
    parts = ((answers.NAME, answers.TITLE), (membership.NAME, membership.TITLE))
    try:
        pipeline = load_pipeline(evidence.store, evidence.manifest)
        clusters = attacked(evidence, pipeline, deleted, plan)
    except FingerprintError as error:
        return _undone(parts, str(error))
    except (ObjectMissingError, ObjectCorruptError) as error:
        first, second = (section(*part, [str(error)]) for part in parts)
        return first, second
    if not clusters:
        return _undone(parts, "no cluster has rows where the deleted ones were, so there is no model to query")
    asking: tuple[Callable[[Pipeline, Sequence[AttackedCluster], Plan, Executor, Progress | None], Section], ...]
    asking = (answers.answers, membership.membership)
    first, second = (ask(pipeline, clusters, plan, workers, report) for ask in asking)
    return first, second


def _undone(parts: tuple[tuple[str, str], tuple[str, str]], reason: str) -> tuple[Section, Section]:
    return not_done(*parts[0], reason), not_done(*parts[1], reason)


def _ids(evidence: Evidence, ids: Sequence[str], deleted: Sequence[Sample]) -> list[str]:
    """Ids to look for: those given, and those of deleted rows; a subject's only if the subject was named."""
    named: set[str] = set().union(*(deletion.hashes for deletion in evidence.audited))
    key = evidence.hash_key
    ids_to_find = list(ids)
    for row in deleted:
        if sample_hash(key, row.sample_id) in named:
            ids_to_find.append(row.sample_id)
        if row.subject_id is not None and subject_hash(key, row.subject_id) in named:
            ids_to_find.append(row.subject_id)
    return list(dict.fromkeys(ids_to_find))
