"""Section on the row files: are the rows out of them, and is every other row where it belongs?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from lmeraser.audit.evidence import Evidence
from lmeraser.audit.report import Section, section
from lmeraser.errors import ObjectCorruptError, ObjectMissingError
from lmeraser.state.commit import ClusterEntry
from lmeraser.state.rows import RowTable
from lmeraser.state.stored_objects import read_rows_of


def row_files(evidence: Evidence) -> Section:
    """Hash every remaining id under the store's key, and look for it among the requests; no id in clear is needed."""
    findings: list[str] = []
    ids: list[str] = []
    for entry in evidence.commit.clusters:
        try:
            table = read_rows_of(evidence.store, evidence.hash_key, entry)
        except (ObjectCorruptError, ObjectMissingError) as error:
            findings.append(str(error))
            continue
        ids += table.sample_ids
        findings += (f"{entry.rows_object}: {what}" for what in _wrong_with_rows(evidence, entry, table))
    repeated = [name for name, count in Counter(ids).items() if count > 1]
    if repeated:
        findings.append(f"{len(repeated)} sample ids are in more than one place")
    findings += _wrong_counts(evidence)
    return section(
        "rows",
        "Are the rows out of the row files?",
        findings,
        said=(
            f"The ids of all {len(ids)} rows in {len(evidence.commit.clusters)} row files were hashed under the key "
            "and looked for among the requests. Every row lies in the cluster of its anchor and its subject, and each "
            "commit that erased holds fewer rows than the one that it was made from, by as many as were asked for.",
        )
        if not findings
        else (),
        figures={"rows": len(ids), "row_files": len(evidence.commit.clusters)},
    )


def _wrong_with_rows(evidence: Evidence, entry: ClusterEntry, table: RowTable) -> Iterator[str]:
    left = [row for row in zip(table.sample_ids, table.subject_ids, strict=True) if evidence.covers(*row)]
    if left:
        yield f"{len(left)} rows that were to be erased are there: kept, or ingested again with --force"
    if len(table) != entry.rows:
        yield f"the commit counts {entry.rows} rows, the file holds {len(table)}"
    bits_N = table.bits(evidence.manifest.config.seed)
    strangers = int((~entry.region.holds(table.anchors_N, bits_N)).sum())
    if strangers:
        yield f"{strangers} rows belong to another cluster"


def _wrong_counts(evidence: Evidence) -> Iterator[str]:
    """A commit that erases leaves out what was asked for, but for samples that those it came from had left out."""
    left_out: dict[int, set[str]] = {}
    made_from = {one.after.number: one.before for one in evidence.asked if one.after is not None}
    for commit in evidence.commits.values():
        if not commit.requests:
            continue
        wanted: set[str] = set().union(*(evidence.everything[name].samples for name in commit.requests))
        left_out[commit.number] = wanted
        if (before := made_from.get(commit.number)) is None:
            continue
        # A restore goes on from a commit that is not the one before.
        earlier: set[str] = set().union(*(names for number, names in left_out.items() if number <= before.number))
        gone = before.rows - commit.rows
        if not len(wanted - earlier) <= gone <= len(wanted):
            yield (
                f"commit {commit.number} was to leave {len(wanted - earlier)} rows out, but holds {gone} fewer than "
                f"commit {before.number}"
            )
