"""``lmeraser rebuild`` and ``lmeraser upgrade``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer

from cluster.cli.options import DataFolder, read_config
from cluster.cli.output import counts, emit, leave_stdout_to_results, progress, reasons
from cluster.cli.target import KeyedTarget, with_options
from lmeraser.config import Config
from lmeraser.errors import ConfigError
from lmeraser.ids import comparable
from lmeraser.state.manifest import load_manifest
from lmeraser.store import Store

_SEPARATOR = "="


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(rebuild)
    app.command()(upgrade)


@with_options
def rebuild(
    target: KeyedTarget,
    data: DataFolder = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", help="OLD=NEW: a label of the store and what it is called now; may be repeated."),
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave undecodable public images out.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Only show how far the rebuild under way is.")] = False,
    abandon: Annotated[bool, typer.Option("--abandon", help="Give up the rebuild under way.")] = False,
) -> None:
    """Give a live store another configuration: other labels, another backbone, other settings.

    The store keeps its id, its log, its receipts and its memory of what was erased. Predictions are answered and
    deletions erased meanwhile. What does not depend on the change is not computed again. If the command is interrupted,
    the same command goes on.

    Example: lmeraser rebuild --config site.yaml --label lorry=truck --store /data/gtsrb-store
    """
    store = target.open_store(data)
    if watch and abandon:
        raise ConfigError("--watch and --abandon exclude each other")
    if watch or abandon:
        _attend(target, store, abandon=abandon)
        return
    _run(target, store, read_config(target.config, data, target.s3_endpoint), _renamed(label or ()), skip_bad=skip_bad)


@with_options
def upgrade(
    target: KeyedTarget,
    data: DataFolder = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave undecodable public images out.")] = False,
) -> None:
    """Compute a store again under the libraries and processors of this Ray cluster, with the same configuration.

    A store whose fingerprint is another one serves, and accepts and erases deletions, but tunes nothing until then.

    Example: lmeraser upgrade --config site.yaml --store /data/gtsrb-store
    """
    store = target.open_store(data)
    settings = read_config(target.config, data, target.s3_endpoint)
    config = load_manifest(store).config
    if differing := _differing(settings.state(settings.labels or config.labels), config):
        raise ConfigError(
            f"{target.config} has another {', '.join(differing)} than the store: `lmeraser rebuild` changes a "
            "configuration"
        )
    _run(target, store, settings, {}, skip_bad=skip_bad)


def _run(target: KeyedTarget, store: Store, settings: Config, renamed: dict[str, str], *, skip_bad: bool) -> None:
    from cluster.rebuild import rebuild as run
    from cluster.runtime import connect, coordinator_of

    manifest = load_manifest(store)
    leave_stdout_to_results()
    connect()
    begun = time.monotonic()
    with progress() as report:
        coordinator = coordinator_of(target.ref(store), manifest, settings.owners)
        summary = run(coordinator, target.ref(store), settings, renamed, report, skip_bad=skip_bad)
    emit(
        {
            "generation": summary.generation,
            "resumed": summary.resumed,
            "fitted": summary.fitted,
            "public_left_out": counts(summary.source.left_out, target.as_json),
            "public_skipped": reasons(summary.skipped, target.as_json),
            "passed": summary.passed,
            "rows": summary.rows,
            "state_root": summary.state_root,
            "seconds": round(time.monotonic() - begun, 2),
        },
        target.as_json,
    )


def _attend(target: KeyedTarget, store: Store, *, abandon: bool) -> None:
    import ray

    from cluster.rebuild import watch
    from cluster.runtime import connect, coordinator_of

    manifest = load_manifest(store)
    leave_stdout_to_results()
    connect()
    coordinator = coordinator_of(target.ref(store), manifest, target.settings().owners)
    if abandon:
        status = ray.get(coordinator.rebuild_status.remote())
        ray.get(coordinator.abandon_rebuild.remote())
        emit({"abandoned": status.generation if status is not None else None}, target.as_json)
        return
    with progress() as report:
        seen = watch(coordinator, report)
    emit({"watched": seen, "generation": load_manifest(store).generation or None}, target.as_json)


def _renamed(options: Sequence[str]) -> dict[str, str]:
    pairs = [option.partition(_SEPARATOR) for option in options]
    for old, separator, new in pairs:
        if not (old and separator and new):
            raise ConfigError(f"--label is {old + separator + new!r}; allowed is OLD=NEW")
    names = [comparable(old) for old, _, _ in pairs]
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"--label names {repeated!r} more than once")
    return {comparable(old): comparable(new) for old, _, new in pairs}


def _differing(asked: Any, stored: Any) -> list[str]:
    ours, theirs = asdict(asked), asdict(stored)
    return [name for name in ours if ours[name] != theirs[name]]
