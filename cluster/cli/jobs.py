"""``lmeraser pretrain``, ``ingest``, ``tune`` and ``serve``: the jobs that run on Ray."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from cluster.cli.options import (
    AsJson,
    ConfigFile,
    DataFolder,
    KeyFolder,
    S3Endpoint,
    StoreUri,
    find_store,
    key_folder,
    read_config,
    read_settings,
)
from cluster.cli.output import leave_stdout_to_results, print_json, print_pairs, progress
from lmeraser.errors import NotReadyError
from lmeraser.state.manifest import load_manifest
from lmeraser.store import Store
from serving.api_keys import check_listening

_LOOK_S = 2.0


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(pretrain)
    app.command()(ingest)
    app.command()(tune)
    app.command()(serve)


def pretrain(
    config: ConfigFile = None,
    data: DataFolder = None,
    store: StoreUri = "",
    s3_endpoint: S3Endpoint = "",
    as_json: AsJson = False,
) -> None:
    """Train the backbone on the public rows with Ray Train.

    Example: lmeraser pretrain --config cluster/demo.yaml --store /data/digits
    """
    from cluster.pretrain import pretrain as run
    from cluster.runtime import connect

    settings = read_config(config, data, s3_endpoint)
    target = find_store(store, s3_endpoint, config, data)
    leave_stdout_to_results()
    connect()
    begun = time.monotonic()
    with progress() as report:
        weights = run(settings, target, report)
    _print({"weights": weights, "seconds": _since(begun)}, as_json)


def ingest(
    config: ConfigFile = None,
    data: DataFolder = None,
    store: StoreUri = "",
    s3_endpoint: S3Endpoint = "",
    keys: KeyFolder = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave undecodable images out.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Take rows that were erased before, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make the store where there is none, and add the private rows that are new.

    Rows that are in the store already, the same in every byte, are passed over. Rows that were named in a deletion, or
    whose subject was, are left out unless --force is given.

    Example: lmeraser ingest --config examples/gtsrb.yaml --data /data --store /data/gtsrb-store
    """
    from cluster.build import open_or_build
    from cluster.jobs import ingest as run
    from cluster.runtime import connect, coordinator_of

    settings = read_config(config, data, s3_endpoint)
    target = find_store(store, s3_endpoint, config, data)
    leave_stdout_to_results()
    connect()
    begun = time.monotonic()
    with progress() as report:
        built = open_or_build(settings, target, key_folder(keys), report, skip_bad=skip_bad)
        built_s = _since(begun)
        site = _site(target, keys)
        coordinator = coordinator_of(site, built.manifest, settings.owners)
        done = run(
            coordinator,
            site,
            built.manifest,
            settings.private,
            skip_bad=skip_bad,
            force=force,
            report=report,
            images=settings.images,
        )
    if done.source.unnamed:
        typer.echo(
            f"warning: {done.source.unnamed} rows have no sample_id and are named by their content (image-…): "
            "give them ids of your own, or nobody can ask for their deletion by a name that is known outside",
            err=True,
        )
    _print(
        {
            "added": done.outcome.added,
            "present": done.outcome.present,
            "erased": done.outcome.erased,
            "named_by_content": done.source.unnamed,
            "left_out": _counted(done.source.left_out, as_json),
            "skipped": _reasons(done.skipped, as_json),
            "public_left_out": _counted(built.source.left_out, as_json),
            "public_skipped": _reasons(built.skipped, as_json),
            "store": target.uri,
            "public_s": built_s,
            "private_s": round(_since(begun) - built_s, 2),
        },
        as_json,
    )


def tune(
    store: StoreUri = "",
    s3_endpoint: S3Endpoint = "",
    config: ConfigFile = None,
    keys: KeyFolder = None,
    as_json: AsJson = False,
) -> None:
    """Wait until every cluster that awaits a tuning has its specialist.

    Example: lmeraser tune --store /data/gtsrb-store
    """
    from cluster.jobs import tune as run
    from cluster.runtime import connect, coordinator_of

    target = find_store(store, s3_endpoint, config)
    manifest = load_manifest(target)
    leave_stdout_to_results()
    connect()
    begun = time.monotonic()
    with progress() as report:
        status = run(coordinator_of(_site(target, keys), manifest, read_settings(config).owners), report)
    shown = {name: getattr(status, name) for name in ("rows", "clusters", "tunings", "commit", "state_root")}
    _print({**shown, "seconds": _since(begun)}, as_json)


def serve(
    store: StoreUri = "",
    s3_endpoint: S3Endpoint = "",
    config: ConfigFile = None,
    keys: KeyFolder = None,
    host: Annotated[str, typer.Option(help="Address to listen on; others than loopback need API keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    as_json: AsJson = False,
) -> None:
    """Answer over HTTP until interrupted.

    Example: lmeraser serve --store /data/gtsrb-store --port 8000
    """
    from cluster.applications import serves
    from cluster.runtime import connect, coordinator_of
    from cluster.service import check_address, start_service, stop_service

    target = find_store(store, s3_endpoint, config)
    manifest = load_manifest(target)
    settings = read_settings(config)
    manifest.check_lease(settings.lease_s)
    # The service checks this too; here it is told before Ray starts.
    check_listening(key_folder(keys), host)
    leave_stdout_to_results()
    connect()
    # Before a coordinator is started: where another service runs, nothing is begun.
    check_address(target, key_folder(keys), host, port)
    coordinator_of(_site(target, keys), manifest, settings.owners)
    # How a service manager ends it, also while it starts: as an interrupt does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        url = start_service(target, key_folder(keys), settings.serving, host, port)
        _print({"url": url, "docs": f"{url}/docs", "store": target.uri}, as_json)
        while serves(target.uri):
            time.sleep(_LOOK_S)
    except KeyboardInterrupt:
        stop_service()
        return
    raise NotReadyError(f"the service of {target.uri} was ended by another command")


def _site(store: Store, keys: Path | None) -> Any:
    from actors.remote.placement import StoreRef

    return StoreRef(store.uri, str(key_folder(keys)))


def _counted(reasons: Mapping[str, int], as_json: bool) -> Any:
    return dict(reasons) if as_json else ", ".join(f"{count} {reason}" for reason, count in reasons.items()) or None


def _reasons(skipped: Mapping[str, str], as_json: bool) -> Any:
    return dict(skipped) if as_json else "; ".join(f"{name}: {reason}" for name, reason in skipped.items()) or None


def _since(begun: float) -> float:
    return round(time.monotonic() - begun, 2)


def _print(value: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(value)
    else:
        print_pairs(value.items())
