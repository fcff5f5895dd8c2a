"""Section on the row files: are the rows gone from them, and is every other row where it belongs?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from lmeraser.audit.evidence import Evidence
from lmeraser.audit.report import Section, section
from lmeraser.errors import ObjectCorruptError, ObjectMissingError
from lmeraser.state.cluster_entry import ClusterEntry
from lmeraser.state.rows import RowTable
from lmeraser.state.stored_objects import read_rows_of


def rows(evidence: Evidence) -> Section:
    """Hash every remaining id under the store's key, and look for it in the requests. Needs no ids in clear."""
    findings: list[str] = []
    ids: list[str] = []
    for entry in evidence.commit.clusters:
        try:
            table = read_rows_of(evidence.store, evidence.hash_key, entry)
        except (ObjectCorruptError, ObjectMissingError) as error:
            findings.append(str(error))
            continue
        ids += table.sample_ids
        findings += (f"cluster {entry.key}: {fault}" for fault in _faults_of_rows(evidence, entry, table))
    repeated = sum(count > 1 for count in Counter(ids).values())
    if repeated:
        findings.append(f"{repeated} sample ids occur more than once")
    findings += _faults_of_counts(evidence)
    files = sum(len(entry.segments) for entry in evidence.commit.clusters)
    return section(
        "rows",
        "Are the rows gone from the row files?",
        findings,
        said=(
            f"The ids of all {len(ids)} rows in {files} row files were hashed under the key "
            "and looked for in the requests. Every row is in the cluster of its anchor and its subject. Each commit "
            "that erased has fewer rows than the one that it was made from, by the number that was requested.",
        )
        if not findings
        else (),
        figures={"rows": len(ids), "row_files": files},
    )


def _faults_of_rows(evidence: Evidence, entry: ClusterEntry, table: RowTable) -> Iterator[str]:
    remaining = sum(evidence.covers(*row) for row in zip(table.sample_ids, table.subject_ids, strict=True))
    if remaining:
        yield f"{remaining} rows that should be erased are still there: kept, or ingested again with --force"
    if len(table) != entry.rows:
        yield f"the commit says {entry.rows} rows, its files have {len(table)}"
    bits_N = table.bits(evidence.manifest.config.seed)
    misplaced = int((~entry.region.holds(table.anchors_N, bits_N)).sum())
    if misplaced:
        yield f"{misplaced} rows belong to another cluster"


def _faults_of_counts(evidence: Evidence) -> Iterator[str]:
    """A commit that erases must leave out what was requested, except samples that earlier commits left out already."""
    left_out: dict[int, set[str]] = {}
    made_from = {each.after.number: each.before for each in evidence.audited if each.after is not None}
    for commit in evidence.commits.values():
        if not commit.requests:
            continue
        requested: set[str] = set().union(*(evidence.deletions[name].samples for name in commit.requests))
        left_out[commit.number] = requested
        if (before := made_from.get(commit.number)) is None:
            continue
        # A restore continues from a commit that is not the previous one.
        earlier: set[str] = set().union(*(names for number, names in left_out.items() if number <= before.number))
        removed = before.rows - commit.rows
        if not len(requested - earlier) <= removed <= len(requested):
            yield (
                f"commit {commit.number} should leave out {len(requested - earlier)} rows, but has {removed} fewer "
                f"than commit {before.number}"
            )
