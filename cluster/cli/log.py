"""``lmeraser log``."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated

import typer

from cluster.cli.options import AsJson, ConfigFile, S3Endpoint, StoreUri, find_store
from cluster.cli.output import print_json, print_pairs, print_rows
from lmeraser.log import Log
from lmeraser.manifest import load_manifest
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
    """Walk the chain; exit code 1 when a record is changed, missing or out of order.

    Nothing follows the last record: to see that it was changed or removed, compare the head with one that you kept.

    Example: lmeraser log check --store /data/gtsrb-store
    """
    target = find_store(store, s3_endpoint, config)
    load_manifest(target)
    records = Log(target).advance()
    found = {"records": len(records), "head": records[-1].digest if records else None, "valid": True}
    if as_json:
        print_json(found)
    else:
        print_pairs(found.items())


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
    from lmeraser.mirror import mirror_log

    source, target = find_store(store, s3_endpoint, config), open_store(to)
    found = mirror_log(source, target)
    if as_json:
        print_json(asdict(found))
    else:
        print_pairs(asdict(found).items())
    while follow:
        time.sleep(_FOLLOW_S)
        mirror_log(source, target)
