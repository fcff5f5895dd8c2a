"""``lmeraser pretrain``, ``ingest``, ``tune`` and ``serve``: the jobs that run on Ray."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Annotated

import typer

from cluster.cli.options import DataFolder, read_config
from cluster.cli.output import counts, emit, leave_stdout_to_results, progress, reasons, warn
from cluster.cli.target import KeyedTarget, Target, with_options
from lmeraser.errors import NotReadyError
from lmeraser.state.manifest import load_manifest
from serving.api_keys import check_listening

_POLL_S = 2.0


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(pretrain)
    app.command()(ingest)
    app.command()(tune)
    app.command()(serve)


@with_options
def pretrain(
    target: Target,
    data: DataFolder = None,
    tensorboard: Annotated[
        Path | None, typer.Option("--tensorboard", help="Folder for TensorBoard: loss, learning rate, accuracy.")
    ] = None,
) -> None:
    """Train the backbone on the public rows with Ray Train.

    Example: lmeraser pretrain --config cluster/demo.yaml --store /data/digits
    """
    from cluster.pretrain import pretrain as run
    from cluster.pretrain_log import TrainingLog
    from cluster.runtime import connect

    settings = read_config(target.config, data, target.s3_endpoint)
    store = target.open_store(data)
    leave_stdout_to_results()
    with ExitStack() as stack:
        log = stack.enter_context(closing(TrainingLog(tensorboard))) if tensorboard is not None else None
        connect()
        begun = time.monotonic()
        weights = run(settings, store, stack.enter_context(progress()), log)
    emit({"weights": weights, "seconds": _since(begun)}, target.as_json)


@with_options
def ingest(
    target: KeyedTarget,
    data: DataFolder = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave undecodable images out.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also add rows that were erased before.")] = False,
) -> None:
    """Make the store if there is none, and add the private rows that are new.

    Rows that are already in the store, byte for byte, are ignored. Rows that a deletion named, or whose subject it
    named, are left out unless --force is given.

    Example: lmeraser ingest --config examples/gtsrb.yaml --data /data --store /data/gtsrb-store
    """
    from cluster.build import open_or_build
    from cluster.jobs import ingest as run
    from cluster.runtime import connect, coordinator_of

    settings = read_config(target.config, data, target.s3_endpoint)
    store = target.open_store(data)
    leave_stdout_to_results()
    connect()
    begun = time.monotonic()
    with progress() as report:
        built = open_or_build(settings, store, target.key_folder, report, skip_bad=skip_bad)
        built_s = _since(begun)
        ref = target.ref(store)
        coordinator = coordinator_of(ref, built.manifest, settings.owners, settings.deletions)
        summary = run(
            coordinator,
            ref,
            built.manifest,
            settings.private,
            skip_bad=skip_bad,
            force=force,
            report=report,
            images=settings.images,
        )
    if summary.source.unnamed:
        warn(
            f"{summary.source.unnamed} rows have no sample_id and are named by their content (image-…): "
            "give them ids of your own, or nobody outside can name them in a deletion request"
        )
    emit(
        {
            "added": summary.outcome.added,
            "present": summary.outcome.present,
            "erased": summary.outcome.erased,
            "named_by_content": summary.source.unnamed,
            "left_out": counts(summary.source.left_out, target.as_json),
            "skipped": reasons(summary.skipped, target.as_json),
            "public_left_out": counts(built.source.left_out, target.as_json),
            "public_skipped": reasons(built.skipped, target.as_json),
            "store": store.uri,
            "public_s": built_s,
            "private_s": round(_since(begun) - built_s, 2),
        },
        target.as_json,
    )


@with_options
def tune(target: KeyedTarget) -> None:
    """Wait until every cluster that awaits a tuning has its specialist.

    Example: lmeraser tune --store /data/gtsrb-store
    """
    from cluster.jobs import tune as run
    from cluster.runtime import connect, coordinator_of

    store = target.open_store()
    manifest = load_manifest(store)
    leave_stdout_to_results()
    connect()
    begun = time.monotonic()
    with progress() as report:
        status = run(coordinator_of(target.ref(store), manifest, target.settings().owners), report)
    shown = {name: getattr(status, name) for name in ("rows", "clusters", "tunings", "commit", "state_root")}
    emit({**shown, "seconds": _since(begun)}, target.as_json)


@with_options
def serve(
    target: KeyedTarget,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any other than loopback needs API keys.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
) -> None:
    """Serve predictions and deletions over HTTP until interrupted.

    Example: lmeraser serve --store /data/gtsrb-store --port 8000
    """
    from cluster.applications import serves
    from cluster.runtime import connect, coordinator_of
    from cluster.service import check_address, start_service, stop_service

    store, keys = target.open_store(), target.key_folder
    manifest = load_manifest(store)
    settings = target.settings()
    manifest.check_lease(settings.lease_s)
    # The service checks this too; here the command fails before Ray starts.
    check_listening(keys, host)
    leave_stdout_to_results()
    connect()
    # Before a coordinator is started: where another service runs, nothing is begun.
    check_address(store, keys, host, port)
    coordinator_of(target.ref(store), manifest, settings.owners, settings.deletions)
    # Service managers end a process with SIGTERM, also while it starts: treat it as an interrupt.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        url = start_service(store, keys, settings.serving, host, port, settings.owners)
        emit({"url": url, "docs": f"{url}/docs", "store": store.uri}, target.as_json)
        while serves(store.uri):
            time.sleep(_POLL_S)
    except KeyboardInterrupt:
        stop_service()
        return
    raise NotReadyError(f"the service of {store.uri} was ended by another command")


def _since(begun: float) -> float:
    return round(time.monotonic() - begun, 2)
