"""``lmeraser status``."""

from __future__ import annotations

from collections import Counter
from typing import Any

import typer

from actors.log_replay import History
from cluster.cli.options import AsJson, ConfigFile, S3Endpoint, StoreUri, find_store
from cluster.cli.output import print_json, print_pairs, warn
from lmeraser.state.log import Log
from lmeraser.state.manifest import load_manifest


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(status)


def status(
    store: StoreUri = "",
    s3_endpoint: S3Endpoint = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """What the store holds and what it waits for, read from the store alone.

    Example: lmeraser status --store /data/gtsrb-store
    """
    from lmeraser.state.stored_objects import missing_now

    target = find_store(store, s3_endpoint, config)
    manifest = load_manifest(target)
    history = History()
    log = Log(target)
    history.replay(log.advance())
    commit = history.commit
    clusters = commit.clusters if commit is not None else ()
    found: dict[str, Any] = {
        "store": target.uri,
        "store_id": manifest.store_id,
        "backbone": manifest.public_digests["backbone"],
        "term": history.term,
        "commit": commit.number if commit is not None else None,
        "state_root": commit.root if commit is not None else None,
        "rows": sum(entry.rows for entry in clusters),
        "clusters": len(clusters),
        "tuned": sum(entry.specialist_object is not None for entry in clusters),
        "awaiting": sum(entry.state(manifest.config.tunes) == "awaits tuning" for entry in clusters),
        "missing_objects": list(missing_now(target, log, commit)) if commit is not None else [],
        "deletions": dict(Counter(deletion.status for deletion in history.deletions.values())),
    }
    if as_json:
        print_json(found)
    else:
        deletions = ", ".join(f"{count} {status}" for status, count in found["deletions"].items())
        missing = len(found["missing_objects"])
        print_pairs({**found, "missing_objects": missing, "deletions": deletions or "none"}.items())
    if found["missing_objects"]:
        warn(
            f"the store lacks what its newest commit names, such as {found['missing_objects'][0]}: `lmeraser log check`"
        )
