"""``lmeraser restore``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from cluster.cli.options import AsJson, ConfigFile, KeyFolder, S3Endpoint, StoreUri, find_store, key_folder
from cluster.cli.output import print_json, print_pairs
from lmeraser.state.keys import load_hash_key, load_signing_key
from lmeraser.store import open_store


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(restore)


def restore(
    mirror: Annotated[
        str, typer.Option("--mirror", help="Mirror of the log: a folder or s3://bucket/prefix?endpoint=URL.")
    ],
    store: StoreUri = "",
    s3_endpoint: S3Endpoint = "",
    config: ConfigFile = None,
    keys: KeyFolder = None,
    as_json: AsJson = False,
) -> None:
    """Apply a newer log to an older copy of the store, so that nothing that was deleted since comes back.

    The copy must have been made while nothing was written, and nothing may run on it. Until the restore is finished no
    command opens it; one that was broken off is finished by running it again. Rows that were ingested after the copy
    was made are not in it: ingest them again. Then `lmeraser tune` or `lmeraser serve` tunes what the erasure touched.

    Example: lmeraser restore --store /data/gtsrb-store --mirror /mnt/other/gtsrb-log
    """
    from actors.restoring import restore as run

    folder = key_folder(keys)
    target = find_store(store, s3_endpoint, config)
    found = run(target, open_store(mirror), load_hash_key(folder), load_signing_key(folder))
    if as_json:
        print_json(asdict(found))
    else:
        print_pairs(
            (name, ", ".join(item) if isinstance(item, tuple) else item) for name, item in asdict(found).items()
        )
