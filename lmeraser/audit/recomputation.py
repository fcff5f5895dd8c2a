"""Section on the state: retrained from the remaining rows, in processes that were started for it."""

from __future__ import annotations

from concurrent.futures import Executor

from lmeraser.audit.evidence import Evidence
from lmeraser.audit.report import Section, Table, not_done, section
from lmeraser.errors import FingerprintError, ObjectCorruptError, ObjectMissingError
from lmeraser.progress import Progress
from lmeraser.proof.contents import Damage
from lmeraser.proof.verify import compare
from lmeraser.state.layout import HEADS_PART, SUMS_PART, prompt_part, prompted_part, rows_part
from lmeraser.state.merkle import MerkleTree, merkle_root

NAME, TITLE = "recomputation", "Is the state what the remaining rows give?"
_SHOWN = 16


def recomputation(evidence: Evidence, workers: Executor, report: Progress | None) -> Section:
    """Compare digests part by part; those of the touched clusters are listed with their Merkle paths."""
    try:
        compared = compare(evidence.store, evidence.hash_key, workers, report=report)
    except FingerprintError as error:
        return not_done(NAME, TITLE, str(error))
    except (ObjectCorruptError, ObjectMissingError) as error:
        return section(NAME, TITLE, [str(error)])
    of_clusters = (part(key) for part in (prompt_part, prompted_part) for key in compared.awaiting)
    unfinished = {HEADS_PART, SUMS_PART, *of_clusters}
    if compared.awaiting and {*compared.differing, *compared.damaged} <= unfinished:
        return not_done(
            NAME, TITLE, f"{len(compared.awaiting)} clusters await tuning: audit again when nothing is pending"
        )
    touched = sorted(
        name
        for entry in evidence.touched()
        for name in (rows_part(entry.key), prompt_part(entry.key), prompted_part(entry.key))
        if name in compared.fresh or name in compared.stored
    )
    tree = MerkleTree.of(compared.fresh)
    paths = {name: path for name in touched if (path := tree.path(name)) is not None}
    shown = [*touched, HEADS_PART, SUMS_PART]
    rows = tuple(
        (
            name,
            _short(compared.fresh.get(name)),
            _short(compared.stored.get(name)),
            _short(compared.committed.get(name)),
            f"{len(paths[name].siblings)} steps" if name in paths and paths[name].root() == tree.root else "-",
        )
        for name in shown
    )
    return section(
        NAME,
        TITLE,
        [
            *(f"{name} differs from what the remaining rows give" for name in compared.differing),
            *(f"{name} cannot be compared: {reason}" for name, reason in compared.damaged.items()),
        ],
        said=(
            f"All features, the partition, every prompt and both heads were recomputed from the ids, labels and images "
            f"of the {compared.rows} remaining rows: {len(compared.fresh)} parts, of which {len(compared.differing)} "
            f"differ and {len(compared.damaged)} cannot be compared.",
            "Digests are keyed: without the hash key they reveal nothing.",
        ),
        tables=(Table(("part", "recomputed", "in the store", "in the commit", "Merkle path"), rows),),
        figures={
            "rows": compared.rows,
            "parts": len(compared.fresh),
            "differing": list(compared.differing),
            "damaged": dict(compared.damaged),
            "fresh_root": tree.root,
            "state_root": merkle_root(compared.stored),
            "touched": {name: compared.fresh.get(name) for name in touched},
        },
    )


def _short(digest: str | None) -> str:
    if isinstance(digest, Damage):
        return "damaged"
    return "none" if digest is None else digest[:_SHOWN]
