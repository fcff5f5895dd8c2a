"""``lmeraser log``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from itertools import pairwise
from typing import Annotated

import typer

from cluster.cli.output import emit, print_pairs, print_rows
from cluster.cli.target import Target, with_options
from lmeraser.errors import LogError
from lmeraser.state.commit import commits_in
from lmeraser.state.log import Log, Record
from lmeraser.state.manifest import load_manifest
from lmeraser.store import open_store

_COLUMNS = ("number", "kind", "term", "at", "digest")
_FOLLOW_S = 1.0
group = typer.Typer(help="Show, check and mirror the hash-chained log.", no_args_is_help=True)


@group.command("show")
@with_options
def show(target: Target) -> None:
    """Show all records; they hold ids as keyed hashes only.

    Example: lmeraser log show --store /data/gtsrb-store
    """
    store = target.open_store()
    load_manifest(store)
    records = Log(store).advance()
    emit(
        {"records": [asdict(record) for record in records]},
        target.as_json,
        lambda: print_rows(_COLUMNS, ([getattr(record, name) for name in _COLUMNS] for record in records)),
    )


@group.command("check")
@with_options
def check(target: Target) -> None:
    """Check the log's hash chain, its checkpoints, and that the store holds every object that the newest commit names.

    Exit code 1 if a record is changed, missing, out of order or dated before its predecessor, a checkpoint is damaged
    or says otherwise than the records, or an object is missing.
    No record follows the last one: to detect its change or removal, compare the head with one that you kept.

    Example: lmeraser log check --store /data/gtsrb-store
    """
    from lmeraser.state.checkpoint import wrong_checkpoints
    from lmeraser.state.stored_objects import missing_now

    store = target.open_store()
    load_manifest(store)
    log = Log(store)
    records = log.advance()
    commits = commits_in(records)
    missing = missing_now(store, log, commits[-1]) if commits else ()
    problems = [
        *_out_of_time(records),
        *wrong_checkpoints(store, records, commits),
        *(f"{name}, which the newest commit names, is missing" for name in missing),
    ]
    head = records[-1].digest if records else None
    value = {"records": len(records), "head": head, "valid": not problems}
    pairs = [*value.items(), *(("", problem) for problem in problems)]
    emit({**value, "problems": problems}, target.as_json, lambda: print_pairs(pairs))
    if problems:
        raise LogError(f"{len(problems)} problem(s) with the log of {store.uri}, such as: {problems[0]}")


def _out_of_time(records: list[Record]) -> Iterator[str]:
    for previous, record in pairwise(records):
        if datetime.fromisoformat(record.at) < datetime.fromisoformat(previous.at):
            yield f"log record {record.number} is dated {record.at}, before the previous record's {previous.at}"


@group.command("mirror")
@with_options
def mirror(
    target: Target,
    to: Annotated[str, typer.Option("--to", help="A folder on another medium, or s3://bucket/prefix?endpoint=URL.")],
    follow: Annotated[bool, typer.Option("--follow", help="Repeat once per second, until interrupted.")] = False,
) -> None:
    """Copy new records of the log, and the receipts, to a location that outlives the store.

    `lmeraser restore` needs the mirror; records that were not mirrored when the store is lost cannot be applied. The
    mirror holds ids as keyed hashes only.

    Example: lmeraser log mirror --to /mnt/other/gtsrb-log --follow --store /data/gtsrb-store
    """
    from lmeraser.proof.mirror import LogMirror

    log_mirror = LogMirror(target.open_store(), open_store(to))
    emit(asdict(log_mirror.copy()), target.as_json)
    while follow:
        time.sleep(_FOLLOW_S)
        log_mirror.copy()
