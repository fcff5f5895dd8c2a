"""``lmeraser sweep``."""

from __future__ import annotations

import time

import typer

from cluster.cli.output import emit, leave_stdout_to_results
from cluster.cli.target import KeyedTarget, with_options
from lmeraser.state.manifest import load_manifest


@with_options
def sweep(target: KeyedTarget) -> None:
    """Remove every object that the newest commit does not name, and check by listing that it is gone.

    Deletions sweep the folders of the clusters that they touch. Run this every night: it lists the whole store, and so
    finds what nothing else would look for.

    Example: lmeraser sweep --store /data/gtsrb-store
    """
    import ray

    from cluster.runtime import connect, coordinator_of

    store = target.open_store()
    manifest = load_manifest(store)
    leave_stdout_to_results()
    connect()
    begun = time.monotonic()
    ray.get(coordinator_of(target.ref(store), manifest, target.settings().owners).sweep_everything.remote())
    emit({"swept": store.uri, "seconds": round(time.monotonic() - begun, 3)}, target.as_json)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("sweep")(sweep)
