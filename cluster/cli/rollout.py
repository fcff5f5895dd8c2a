"""``lmeraser rollout``."""

from __future__ import annotations

from dataclasses import asdict

import typer

from cluster.cli.options import (
    AsJson,
    ConfigFile,
    KeyFolder,
    S3Endpoint,
    StoreUri,
    find_store,
    key_folder,
    read_settings,
)
from cluster.cli.output import leave_stdout_to_results, print_json, print_pairs, progress
from lmeraser.state.manifest import load_manifest


def rollout(
    store: StoreUri = "",
    s3_endpoint: S3Endpoint = "",
    config: ConfigFile = None,
    keys: KeyFolder = None,
    as_json: AsJson = False,
) -> None:
    """Replace owners, coordinator and replicas by new ones with the code and configuration of this command.

    Predictions are answered meanwhile, and the state stays as it is. Give the same --config as to `lmeraser serve`.

    Example: lmeraser rollout --config signs.yaml
    """
    from actors.remote.placement import StoreRef
    from cluster.rollout import roll
    from cluster.runtime import connect

    target = find_store(store, s3_endpoint, config)
    manifest = load_manifest(target)
    settings = read_settings(config)
    manifest.check_lease(settings.lease_s)
    leave_stdout_to_results()
    connect()
    with progress() as report:
        rolled = roll(StoreRef(target.uri, str(key_folder(keys))), settings, report)
    if as_json:
        print_json(asdict(rolled))
    else:
        print_pairs(asdict(rolled).items())


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("rollout")(rollout)
