"""Section on residue: a scan of all that the store keeps, and of other folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lmeraser.audit.evidence import Evidence
from lmeraser.audit.report import Section, Table, not_done, section
from lmeraser.data import Sample
from lmeraser.hashing import sample_hash, subject_hash
from lmeraser.proof.residue import NOT_LOOKED_FOR, scan

NAME, TITLE = "residue", "Is a byte of the rows left in the files?"
_SHOWN = 20


def residue_section(
    evidence: Evidence, folders: Sequence[Path], ids: Sequence[str], deleted: Sequence[Sample]
) -> Section:
    """Scan for ids, and for images and features of those deleted rows that the auditor has.

    Without the ids of all samples in clear there is nothing to look for: the section is not done then.
    """
    samples: set[str] = set().union(*(deletion.samples for deletion in evidence.audited))
    given = {sample_hash(evidence.hash_key, name) for name in ids}
    if samples - given:
        return not_done(
            NAME,
            TITLE,
            f"the ids of {len(samples - given)} of {len(samples)} samples were not given in clear, and the store does "
            "not know them: give them with --ids-file, or the rows with --with-rows",
        )
    images = [sample.image for sample in deleted]
    residue = scan(evidence.store, evidence.hash_key, folders, ids, images)
    findings = [f"{finding.file} {finding.what}" for finding in residue.findings]
    more = [f"and {len(findings) - _SHOWN} more"] if len(findings) > _SHOWN else []
    return section(
        NAME,
        TITLE,
        [*findings[:_SHOWN], *more],
        said=(
            f"{residue.files} files were searched byte by byte for {residue.ids} ids and for {residue.images} images "
            "and their features. An object that the newest commit does not name is a finding, and so is a file that "
            "cannot be read.",
            f"Not looked for: {'; '.join(NOT_LOOKED_FOR)}.",
        ),
        tables=(Table(("scanned",), ((evidence.store.uri,), *((str(folder),) for folder in folders))),),
        figures={"files": residue.files, "ids": residue.ids, "images": residue.images, "findings": len(findings)},
    )


def unknown_ids(evidence: Evidence, ids: Sequence[str]) -> list[str]:
    """Ids that none of the audited deletions names."""
    named: set[str] = set().union(*(deletion.hashes for deletion in evidence.audited))
    key = evidence.hash_key
    return [name for name in ids if named.isdisjoint({sample_hash(key, name), subject_hash(key, name)})]
