"""Sections on what was written down: requests, receipts, and the log with its Merkle proofs."""

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
        f"deletion {one.id} is only accepted: its rows are still in the system"
        for one in evidence.asked
        if one.erased is None
    ]
    rows = tuple(
        (
            one.id,
            one.status,
            str(one.coverage.rows),
            str(len(one.coverage.subjects)),
            str(one.coverage.unknown),
            one.request.at,
            one.erased.at if one.erased is not None else "-",
            one.completed.at if one.completed is not None else "-",
        )
        for one in evidence.asked
    )
    columns = ("deletion", "status", "rows", "subjects", "unknown ids", "accepted", "erased", "completed")
    pending = [one for one in evidence.asked if one.status in ("erased", "failed")]
    said = [f"{len(pending)} of them wait for a tuning or failed in it; the erasure stands."] if pending else []
    return section(
        "requests",
        "What was asked, and was it erased?",
        findings,
        said=(f"{len(evidence.asked)} of the {len(evidence.everything)} deletions in the log were audited.", *said),
        tables=(Table(columns, rows),),
        figures={"deletions": [dict(zip(columns, row, strict=True)) for row in rows]},
    )


def receipts(evidence: Evidence) -> Section:
    """Does each receipt hold, and does it say what the log says?"""
    findings: list[str] = []
    rows = []
    paths = 0
    for one in evidence.asked:
        if one.before is not None and one.after is not None:
            changed = sides(one.before, one.after, one.erasure.clusters)
            paths += len(changed["before"]["rows"]) + len(changed["after"]["rows"])
        wrong = list(_wrong_with_receipt(evidence, one))
        findings += (f"deletion {one.id}: {reason}" for reason in wrong)
        touched = one.erased.body["clusters"] if one.erased is not None else []
        rows.append((one.id, "no" if wrong else "yes", ", ".join(touched) or "-"))
    return section(
        "receipts",
        "Do the receipts hold, and do they say what the log says?",
        findings,
        said=(
            f"Checked: the signatures, {paths} Merkle paths before and after, each led to its root, "
            "the keyed hashes against the request's record, clusters and roots against the commits in the log.",
        ),
        tables=(Table(("deletion", "holds", "clusters touched"), tuple(rows)),),
        figures={"holding": sum(row[1] == "yes" for row in rows), "receipts": len(rows), "merkle_paths": paths},
    )


def log(evidence: Evidence, known_head: str | None) -> Section:
    """Does the chain hold, and do all commits follow from their leaves?"""
    head = evidence.records[-1]
    findings = []
    if known_head is not None and known_head not in {record.digest for record in evidence.records}:
        findings.append(f"no record of the log has the digest {known_head}: records are gone or changed")
    for one in evidence.asked:
        if one.erased is not None and (one.after is None or one.after.number > one.erased.number):
            findings.append(f"deletion {one.id} was recorded as erased before any commit left its rows out")
    kinds = dict(sorted(Counter(record.kind for record in evidence.records).items()))
    said = [
        f"{len(evidence.records)} records follow from each other by their digests; "
        f"the root of each of the {len(evidence.commits)} commits follows from its leaves.",
        "The last record has no successor: keep its digest, and give it as --known-head the next time."
        if known_head is None
        else "A record has the digest that was given as the known head.",
    ]
    return section(
        "log",
        LOG_TITLE,
        findings,
        said=tuple(said),
        tables=(Table(("records", *kinds), ((str(len(evidence.records)), *map(str, kinds.values())),)),),
        figures={"records": len(evidence.records), "head": head.digest, "kinds": kinds, "known_head": known_head},
    )


def _wrong_with_receipt(evidence: Evidence, one: AuditedDeletion) -> Iterator[str]:
    if one.before is None or one.after is None or one.erased is None:
        yield "it has no receipt, because it is not erased"
        return
    try:
        receipt = json.loads(evidence.store.get((one.completed or one.erased).body["receipt"]))
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
    yield from _contradictions(evidence, one, receipt, sides(one.before, one.after, one.erasure.clusters))


def _contradictions(
    evidence: Evidence, one: AuditedDeletion, receipt: dict[str, Any], changed: dict[str, Any]
) -> Iterator[str]:
    coverage = one.coverage
    expected = {
        "deletion": one.id,
        "store": evidence.manifest.store_id,
        "key_check": key_check(evidence.hash_key, one.id),
        "samples": coverage.samples,
        "subjects": coverage.subjects,
        "rows": coverage.rows,
        "unknown": coverage.unknown,
        "accepted_at": one.request.at,
        **changed,
    }
    # As JSON has it: tuples are lists there.
    expected = json.loads(json.dumps(expected))
    for name, value in expected.items():
        if receipt.get(name) != value:
            yield f"its receipt's {name!r} is not what the log says"
    if sorted(one.erased.body["clusters"] if one.erased is not None else []) != sorted(one.erasure.clusters):
        yield "its record names other clusters than its commit"
    for key in one.erasure.clusters:
        before, after = (commit.entry(key) if commit is not None else None for commit in (one.before, one.after))
        if before is None or (after is not None and after.rows_leaf == before.rows_leaf):
            yield f"its commit left the rows of cluster {key} as they were"
    completed = receipt.get("completed")
    if (completed is not None) != (one.completed is not None):
        yield "the receipt and the log do not agree on whether it is completed"
    elif completed is not None:
        commit = evidence.commits.get(completed.get("log"))
        if commit is None or commit.root != completed.get("root"):
            yield "the root at completion is not that of a commit in the log"
