"""``lmeraser verify``."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Annotated

import typer

from cluster.cli.options import AsJson, ConfigFile, KeyFolder, S3Endpoint, StoreUri, find_store, key_folder
from cluster.cli.output import print_json, print_pairs, progress
from lmeraser.state.keys import load_hash_key


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(verify)


def verify(
    store: StoreUri = "",
    s3_endpoint: S3Endpoint = "",
    config: ConfigFile = None,
    keys: KeyFolder = None,
    cluster: Annotated[str | None, typer.Option(help="Compare this cluster only.")] = None,
    processes: Annotated[int | None, typer.Option(min=1, help="Worker processes.  [default: one a core]")] = None,
    as_json: AsJson = False,
) -> None:
    """Recompute the state from the remaining rows, and compare; exit code 1 when it differs.

    Example: lmeraser verify --store /data/gtsrb-store
    """
    from lmeraser.proof.verify import verify as run

    target = find_store(store, s3_endpoint, config)
    with progress() as report:
        found = run(target, load_hash_key(key_folder(keys)), cluster, processes or os.cpu_count() or 1, report)
    value = asdict(found)
    if as_json:
        print_json(value)
    else:
        print_pairs((name, ", ".join(item) if isinstance(item, tuple) else item) for name, item in value.items())
    if not found.equal:
        raise typer.Exit(1)
