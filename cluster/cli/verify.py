"""``lmeraser verify``."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Annotated

import typer

from cluster.cli.output import emit, print_pairs, progress
from cluster.cli.target import KeyedTarget, with_options
from lmeraser.state.keys import load_hash_key


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(verify)


@with_options
def verify(
    target: KeyedTarget,
    cluster: Annotated[str | None, typer.Option(help="Compare this cluster only.")] = None,
    processes: Annotated[int | None, typer.Option(min=1, help="Worker processes.  [default: one per core]")] = None,
) -> None:
    """Recompute the state from the remaining rows, and compare; exit code 1 if it differs.

    Example: lmeraser verify --store /data/gtsrb-store
    """
    from lmeraser.proof.verify import verify as run

    store = target.open_store()
    with progress() as report:
        hash_key = load_hash_key(target.key_folder)
        verification = run(store, hash_key, cluster, processes or os.cpu_count() or 1, report)
    damaged = [f"{part} ({reason})" for part, reason in verification.damaged.items()]
    shown = {**asdict(verification), "damaged": damaged}
    emit(asdict(verification), target.as_json, lambda: print_pairs(shown.items()))
    if not verification.equal:
        raise typer.Exit(1)
