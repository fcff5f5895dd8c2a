"""``lmeraser restore``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from cluster.cli.output import emit
from cluster.cli.target import KeyedTarget, with_options
from lmeraser.state.keys import load_hash_key, load_signing_key
from lmeraser.store import open_store


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(restore)


@with_options
def restore(
    target: KeyedTarget,
    mirror: Annotated[
        str, typer.Option("--mirror", help="Mirror of the log: a folder or s3://bucket/prefix?endpoint=URL.")
    ],
) -> None:
    """Apply a newer log to an older copy of the store, so that no row that was deleted since is restored.

    The copy must have been made while nothing was written to the store, and nothing may run on it now. No command
    opens the copy until the restore is finished; run an interrupted restore again to finish it. Rows that were ingested
    after the copy was made are missing: ingest them again. Then `lmeraser tune` or `lmeraser serve` tunes the clusters
    that the erasures changed.

    Example: lmeraser restore --store /data/gtsrb-store --mirror /mnt/other/gtsrb-log
    """
    from actors.restoring import restore as run

    folder = target.key_folder
    result = run(target.open_store(), open_store(mirror), load_hash_key(folder), load_signing_key(folder))
    emit(asdict(result), target.as_json)
