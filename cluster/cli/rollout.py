"""``lmeraser rollout``."""

from __future__ import annotations

from dataclasses import asdict

import typer

from cluster.cli.output import emit, leave_stdout_to_results, progress
from cluster.cli.target import KeyedTarget, with_options
from lmeraser.state.manifest import load_manifest


@with_options
def rollout(target: KeyedTarget) -> None:
    """Replace owners, coordinator and replicas with new ones that run the code and configuration of this command.

    Predictions are answered throughout, and the state does not change. Give the same --config as to `lmeraser serve`.

    Example: lmeraser rollout --config signs.yaml
    """
    from cluster.rollout import roll
    from cluster.runtime import connect

    store = target.open_store()
    settings = target.settings()
    load_manifest(store).check_lease(settings.lease_s)
    leave_stdout_to_results()
    connect()
    with progress() as report:
        result = roll(target.ref(store), settings, report)
    emit(asdict(result), target.as_json)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("rollout")(rollout)
