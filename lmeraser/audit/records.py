"""Sections on the records: requests, receipts, and the log with its Merkle proofs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from lmeraser.audit.evidence import AuditedDeletion, Evidence
from lmeraser.audit.report import Section, Table, section
from lmeraser.errors import ObjectMissingError, ReceiptError
from lmeraser.proof.receipts import key_check, sides, verify_receipt

LOG_TITLE = "Is the log whole?"


def requests(evidence: Evidence) -> Section:
    """Was each request erased?"""
    findings = [
        f"deletion {deletion.id} is only accepted: its rows are still in the system"
        for deletion in evidence.audited
        if deletion.erased is None
    ]
    rows = tuple(
        (
            deletion.id,
            deletion.status,
            str(deletion.coverage.rows),
            str(len(deletion.coverage.subjects)),
            str(deletion.coverage.unknown),
            deletion.accepted_at,
            deletion.erased.at if deletion.erased is not None else "-",
            deletion.completed.at if deletion.completed is not None else "-",
        )
        for deletion in evidence.audited
    )
    columns = ("deletion", "status", "rows", "subjects", "unknown ids", "accepted", "erased", "completed")
    pending = sum(deletion.status in ("erased", "failed") for deletion in evidence.audited)
    tuning = (
        [f"{pending} of them await a tuning, or their tuning failed; the erasure remains in effect."] if pending else []
    )
    return section(
        "requests",
        "What was asked, and was it erased?",
        findings,
        said=(
            f"{len(evidence.audited)} of the {len(evidence.deletions)} deletions in the log were audited.",
            *tuning,
        ),
        tables=(Table(columns, rows),),
        figures={"deletions": [dict(zip(columns, row, strict=True)) for row in rows]},
    )


def receipts(evidence: Evidence) -> Section:
    """Is each receipt valid, and does it agree with the log?"""
    findings: list[str] = []
    rows = []
    paths = 0
    for deletion in evidence.audited:
        if deletion.before is not None and deletion.after is not None:
            changed = sides(deletion.before, deletion.after, deletion.erasure.clusters)
            paths += len(changed["before"]["rows"]) + len(changed["after"]["rows"])
        faults = list(_faults_of_receipt(evidence, deletion))
        findings += (f"deletion {deletion.id}: {fault}" for fault in faults)
        rows.append((deletion.id, "no" if faults else "yes", ", ".join(deletion.clusters) or "-"))
    return section(
        "receipts",
        "Are the receipts valid, and do they agree with the log?",
        findings,
        said=(
            f"Checked: the signatures; {paths} Merkle paths, before and after, each up to its root; the keyed hashes "
            "against the request's record; clusters and roots against the commits in the log.",
        ),
        tables=(Table(("deletion", "valid", "clusters touched"), tuple(rows)),),
        figures={"holding": sum(row[1] == "yes" for row in rows), "receipts": len(rows), "merkle_paths": paths},
    )


def log(evidence: Evidence, known_head: str | None) -> Section:
    """Is the chain unbroken, and does the root of every commit follow from its leaves?"""
    head = evidence.records[-1]
    findings = []
    if known_head is not None and known_head not in {record.digest for record in evidence.records}:
        findings.append(f"no record of the log has the digest {known_head}: records were removed or changed")
    for deletion in evidence.audited:
        erased, commit = deletion.erased, deletion.after
        if erased is not None and (commit is None or commit.number > erased.number):
            findings.append(f"deletion {deletion.id} was recorded as erased before any commit left its rows out")
    kinds = dict(sorted(Counter(record.kind for record in evidence.records).items()))
    sentences = [
        f"Each of the {len(evidence.records)} records contains the digest of the one before it, and the root of each "
        f"of the {len(evidence.commits)} commits follows from its leaves.",
        "No later record vouches for the last one: keep its digest, and give it as --known-head the next time."
        if known_head is None
        else "A record has the digest that was given as the known head.",
    ]
    return section(
        "log",
        LOG_TITLE,
        findings,
        said=tuple(sentences),
        tables=(Table(("records", *kinds), ((str(len(evidence.records)), *map(str, kinds.values())),)),),
        figures={"records": len(evidence.records), "head": head.digest, "kinds": kinds, "known_head": known_head},
    )


def _faults_of_receipt(evidence: Evidence, deletion: AuditedDeletion) -> Iterator[str]:
    if deletion.before is None or deletion.after is None or deletion.erased is None:
        yield "it has no receipt, because it is not erased"
        return
    try:
        receipt = json.loads(evidence.store.get(deletion.receipt))
        verify_receipt(receipt, evidence.public_key)
    except ObjectMissingError:
        yield "its receipt is missing"
        return
    except ReceiptError as error:
        yield str(error)
        return
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        yield f"its receipt cannot be read: {error!r}"
        return
    changed = sides(deletion.before, deletion.after, deletion.erasure.clusters)
    yield from _contradictions(evidence, deletion, receipt, changed)


def _contradictions(
    evidence: Evidence, deletion: AuditedDeletion, receipt: dict[str, Any], changed: dict[str, Any]
) -> Iterator[str]:
    coverage = deletion.coverage
    expected = {
        "deletion": deletion.id,
        "store": evidence.manifest.store_id,
        "key_check": key_check(evidence.hash_key, deletion.id),
        "samples": coverage.samples,
        "subjects": coverage.subjects,
        "rows": coverage.rows,
        "unknown": coverage.unknown,
        "accepted_at": deletion.accepted_at,
        **changed,
    }
    # As JSON has it: tuples are lists there.
    expected = json.loads(json.dumps(expected))
    for name, value in expected.items():
        if receipt.get(name) != value:
            yield f"{name!r} in its receipt is not what the log says"
    if sorted(deletion.clusters) != sorted(deletion.erasure.clusters):
        yield "its record names other clusters than its commit"
    for key in deletion.erasure.clusters:
        before, after = (
            commit.entry(key) if commit is not None else None for commit in (deletion.before, deletion.after)
        )
        if before is None or (after is not None and after.rows_leaf == before.rows_leaf):
            yield f"its commit did not change the rows of cluster {key}"
    completed = receipt.get("completed")
    if (completed is not None) != (deletion.completed is not None):
        yield "the receipt and the log disagree on whether it is completed"
    elif completed is not None:
        commit = evidence.commits.get(completed.get("log"))
        if commit is None or commit.root != completed.get("root"):
            yield "the root at completion does not belong to that commit of the log"
