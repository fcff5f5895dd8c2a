"""``lmeraser status``."""

from __future__ import annotations

from collections import Counter
from typing import Any

import typer

from actors.checkpoints import opened_history
from cluster.cli.output import emit, print_pairs, warn
from cluster.cli.target import Target, with_options
from lmeraser.state.manifest import load_manifest


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(status)


@with_options
def status(target: Target) -> None:
    """Show what the store holds and what is pending, read from the store alone.

    Example: lmeraser status --store /data/gtsrb-store
    """
    from lmeraser.state.stored_objects import missing_now

    store = target.open_store()
    manifest = load_manifest(store)
    log, history = opened_history(store)
    history.replay(log.advance())
    commit = history.commit
    clusters = commit.clusters if commit is not None else ()
    states = Counter(entry.state(manifest.config.tunes) for entry in clusters)
    missing = list(missing_now(store, log, commit)) if commit is not None else []
    deletions = Counter(deletion.status for deletion in history.deletions.values())
    if history.archived:
        deletions["completed"] += history.archived
    value: dict[str, Any] = {
        "store": store.uri,
        "store_id": manifest.store_id,
        "generation": manifest.generation or None,
        "rebuild": history.rebuild,
        "backbone": manifest.public_digests["backbone"],
        "term": history.term,
        "commit": commit.number if commit is not None else None,
        "state_root": commit.root if commit is not None else None,
        "rows": sum(entry.rows for entry in clusters),
        "clusters": len(clusters),
        "tuned": states["tuned"],
        "awaiting": states["awaits tuning"],
        "missing_objects": missing,
        "deletions": dict(deletions),
    }
    counts = ", ".join(f"{count} {status}" for status, count in deletions.items())
    shown = {**value, "missing_objects": len(missing), "deletions": counts or "none"}
    emit(value, target.as_json, lambda: print_pairs(shown.items()))
    if missing:
        warn(f"objects that the newest commit names are missing, such as {missing[0]}: run `lmeraser log check`")
