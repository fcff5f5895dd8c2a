"""``lmeraser log``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from itertools import pairwise
from typing import Annotated

import typer

from cluster.cli.options import AsJson, ConfigFile, S3Endpoint, StoreUri, find_store
from cluster.cli.output import print_json, print_pairs, print_rows
from lmeraser.errors import LogError
from lmeraser.state.commit import Commit
from lmeraser.state.log import Log, Record
from lmeraser.state.manifest import load_manifest
from lmeraser.store import open_store

_FOLLOW_S = 1.0
group = typer.Typer(help="The hash-chained log.", no_args_is_help=True)


@group.command("show")
def show(
    store: StoreUri = "",
    s3_endpoint: S3Endpoint = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """All records; bodies hold keyed hashes only.

    Example: lmeraser log show --store /data/gtsrb-store
    """
    target = find_store(store, s3_endpoint, config)
    load_manifest(target)
    records = Log(target).advance()
    if as_json:
        print_json({"records": [asdict(record) for record in records]})
    else:
        columns = ("number", "kind", "term", "at", "digest")
        print_rows(columns, ([getattr(record, column) for column in columns] for record in records))


@group.command("check")
def check(
    store: StoreUri = "",
    s3_endpoint: S3Endpoint = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Walk the chain, and look whether the store holds all that the newest commit names.

    Exit code 1 when a record is changed, missing, out of order or earlier than the one before it, or an object is gone.
    Nothing follows the last record: to see that it was changed or removed, compare the head with one that you kept.

    Example: lmeraser log check --store /data/gtsrb-store
    """
    from lmeraser.state.stored_objects import missing_now

    target = find_store(store, s3_endpoint, config)
    load_manifest(target)
    log = Log(target)
    records = log.advance()
    commits = [record for record in records if record.kind == "commit"]
    gone = missing_now(target, log, Commit.from_record(commits[-1])) if commits else ()
    problems = [*_out_of_time(records), *(f"{name}, which the newest commit names, is gone" for name in gone)]
    head = records[-1].digest if records else None
    found = {"records": len(records), "head": head, "valid": not problems}
    if as_json:
        print_json({**found, "problems": problems})
    else:
        print_pairs([*found.items(), *(("", problem) for problem in problems)])
    if problems:
        raise LogError(f"{len(problems)} thing(s) are wrong with the log of {target.uri}, such as: {problems[0]}")


def _out_of_time(records: list[Record]) -> Iterator[str]:
    for before, record in pairwise(records):
        if datetime.fromisoformat(record.at) < datetime.fromisoformat(before.at):
            yield f"log record {record.number} is of {record.at}, earlier than the one before it, of {before.at}"


@group.command("mirror")
def mirror(
    to: Annotated[str, typer.Option("--to", help="A folder on another medium, or s3://bucket/prefix?endpoint=URL.")],
    store: StoreUri = "",
    s3_endpoint: S3Endpoint = "",
    config: ConfigFile = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on, once a second, until interrupted.")] = False,
    as_json: AsJson = False,
) -> None:
    """Copy the log's new records and the receipts to a place that outlives the store; they hold keyed hashes only.

    `lmeraser restore` needs it. What was not mirrored when the store is lost cannot be applied.

    Example: lmeraser log mirror --to /mnt/other/gtsrb-log --follow --store /data/gtsrb-store
    """
    from lmeraser.proof.mirror import LogMirror

    mirrored = LogMirror(find_store(store, s3_endpoint, config), open_store(to))
    found = mirrored.copy()
    if as_json:
        print_json(asdict(found))
    else:
        print_pairs(asdict(found).items())
    while follow:
        time.sleep(_FOLLOW_S)
        mirrored.copy()
