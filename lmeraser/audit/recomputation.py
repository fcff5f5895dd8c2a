"""Section on the state: retrained from the remaining rows, in processes that were started for it."""

from __future__ import annotations

from concurrent.futures import Executor

from lmeraser.audit.evidence import Evidence
from lmeraser.audit.report import Section, Table, not_done, section
from lmeraser.errors import FingerprintError, ObjectCorruptError, ObjectMissingError
from lmeraser.progress import Progress
from lmeraser.proof.verify import compare
from lmeraser.state.layout import HEADS_PART, PARTITION_PART, rows_part, specialist_part
from lmeraser.state.merkle import merkle_paths, merkle_root

NAME, TITLE = "recomputation", "Is the state what the remaining rows give?"
_SHOWN = 16


def recomputation(evidence: Evidence, workers: Executor, report: Progress | None) -> Section:
    """Compare digests part by part; those of the touched clusters are shown with their way to the root."""
    try:
        found = compare(evidence.store, evidence.hash_key, workers, report=report)
    except FingerprintError as error:
        return not_done(NAME, TITLE, str(error))
    except (ObjectCorruptError, ObjectMissingError) as error:
        return section(NAME, TITLE, [str(error)])
    if found.awaiting and set(found.differing) <= {HEADS_PART, *(specialist_part(key) for key in found.awaiting)}:
        return not_done(
            NAME, TITLE, f"{len(found.awaiting)} clusters await a tuning: audit again when nothing is pending"
        )
    touched = sorted(
        name
        for entry in evidence.touched()
        for name in (rows_part(entry.key), specialist_part(entry.key))
        if name in found.fresh or name in found.stored
    )
    root = merkle_root(found.fresh)
    paths = {path.name: path for path in merkle_paths(found.fresh, [name for name in touched if name in found.fresh])}
    shown = [*touched, PARTITION_PART, HEADS_PART]
    rows = tuple(
        (
            name,
            _short(found.fresh.get(name)),
            _short(found.stored.get(name)),
            _short(found.committed.get(name)),
            f"{len(paths[name].siblings)} steps" if name in paths and paths[name].root() == root else "-",
        )
        for name in shown
    )
    return section(
        NAME,
        TITLE,
        [f"{name} is not what the remaining rows give" for name in found.differing],
        said=(
            f"All features, the partition, every prompt and both heads were recomputed from the ids, labels and images "
            f"of the remaining {found.rows} rows: {len(found.fresh)} parts, of which {len(found.differing)} differ.",
            "Digests are keyed: they say nothing to someone without the hash key.",
        ),
        tables=(Table(("part", "recomputed", "in the store", "in the commit", "way to the root"), rows),),
        figures={
            "rows": found.rows,
            "parts": len(found.fresh),
            "differing": list(found.differing),
            "fresh_root": root,
            "state_root": merkle_root(found.stored),
            "touched": {name: found.fresh.get(name) for name in touched},
        },
    )


def _short(digest: str | None) -> str:
    return "none" if digest is None else digest[:_SHOWN]
