"""``lmeraser deletions from-table``: the ids of a table are deleted, and the outcome of each is written down."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from cluster.cli.deletions import AwaitedStatus, Deletions, TimeoutS, awaited, group, open_deletions
from cluster.cli.options import read_file
from cluster.cli.output import emit, print_pairs, warn
from cluster.cli.target import DeletionTarget, with_options
from lmeraser.deletion import MAX_IDS, Deletion
from lmeraser.errors import ConfigError, LMEraserError
from lmeraser.id_tables import format_of, read_ids
from lmeraser.proof.outcomes import Outcome
from lmeraser.store import open_store
from lmeraser.store.location import SCHEME


@group.command("from-table")
@with_options
def from_table(
    target: DeletionTarget,
    table: Annotated[str, typer.Argument(help="CSV, JSON lines or Parquet: a file, or s3://bucket/path.")],
    column: Annotated[str | None, typer.Option(help="The column of the ids.")] = None,
    subjects: Annotated[bool, typer.Option("--subjects", help="The ids are those of subjects.")] = False,
    outcomes: Annotated[
        Path | None, typer.Option("--outcomes", help="File to write: one JSON object per id, with what became of it.")
    ] = None,
    wait: AwaitedStatus = "completed",
    timeout_s: TimeoutS = 3600.0,
) -> None:
    """Delete the samples, or with --subjects the subjects, that a table of at most 1,000,000 ids names.

    Ids are kept exactly as they are written. If a line is malformed, it is named by its number, and nothing is begun.
    Each 100,000 ids are a deletion of their own. In the file of outcomes, an id is erased, already erased, unknown or
    waiting; the receipt of the deletion that erased it names its keyed hash.

    Example: lmeraser deletions from-table gone.csv --column customer --subjects --outcomes out.jsonl --store STORE
    """
    if outcomes is not None and outcomes.exists():
        raise ConfigError(f"--outcomes names {outcomes}, which exists: name a new file")
    ids = read_ids(_bytes(table), format_of(table.partition("?")[0]), column)
    parts = [ids[start : start + MAX_IDS] for start in range(0, len(ids), MAX_IDS)]
    with open_deletions(target) as deletions:
        asked = [_request(deletions, part, subjects) for part in parts]
        ended = [each if each.status == "requested" else awaited(deletions, each.id, wait, timeout_s) for each in asked]
        if outcomes is not None:
            _write(outcomes, deletions, parts, subjects, [each.id for each in ended])
    shown = {
        "ids": len(ids),
        "rows": sum(each.rows for each in ended),
        "unknown": sum(each.unknown for each in ended),
        "deletions": [each.id for each in ended],
        "statuses": sorted({each.status for each in ended}),
    }
    emit(shown, target.as_json, lambda: print_pairs(shown.items()))
    if any(each.status == "requested" for each in ended):
        warn("nothing is deleted yet: somebody else has to approve it, `lmeraser deletions approve`")
    if failed := [each for each in ended if each.status in ("failed", "declined")]:
        raise LMEraserError(f"deletion {failed[0].id} is {failed[0].status}: {failed[0].reason}")


def _bytes(table: str) -> bytes:
    if not table.startswith(SCHEME):
        return read_file(Path(table))
    path, _, query = table.partition("?")
    folder, _, name = path.rpartition("/")
    return open_store(f"{folder}?{query}" if query else folder).get(name)


def _request(deletions: Deletions, ids: list[str], subjects: bool) -> Deletion:
    return deletions.delete(
        sample_ids=[] if subjects else ids,
        subject_ids=ids if subjects else [],
        idempotency_key=None,
        deadline=None,
        preview=None,
    )


def _write(file: Path, deletions: Deletions, parts: list[list[str]], subjects: bool, asked: list[str]) -> None:
    """Write the outcome of every id."""
    with file.open("x", encoding="utf-8") as lines:
        for outcome in _outcomes(deletions, parts, "subject" if subjects else "sample", asked):
            lines.write(json.dumps(asdict(outcome), ensure_ascii=False) + "\n")


def _outcomes(
    deletions: Deletions, parts: list[list[str]], kind: Literal["sample", "subject"], asked: list[str]
) -> Iterator[Outcome]:
    for part in parts:
        samples, subjects = (part, []) if kind == "sample" else ([], part)
        yield from deletions.outcomes(sample_ids=samples, subject_ids=subjects, deletions=asked)
