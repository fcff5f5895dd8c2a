"""The ``lmeraser`` command: its subcommands, and the exit codes of errors."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer
from rich.console import Console

from cluster.cli import (
    api_keys,
    approvals,  # noqa: F401 (its commands are in the group of deletions)
    audit,
    clusters,
    deletions,
    demo,
    fingerprint,
    init,
    jobs,
    keys,
    log,
    predict,
    preview,
    rebuild,
    receipt,
    residue,
    restore,
    rollout,
    status,
    sweep,
    tables,  # noqa: F401 (as approvals)
    verify,
)
from cluster.cli.failures import reported_error
from lmeraser.errors import ConfigError
from lmeraser.extras import needs_extra
from lmeraser.garbage import collect_rarely

FAILED, USAGE = 1, 2

app = typer.Typer(
    name="lmeraser",
    help="Machine unlearning as a running service.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for module in (
    init,
    demo,
    jobs,
    predict,
    preview,
    deletions,
    status,
    verify,
    residue,
    audit,
    restore,
    rollout,
    rebuild,
    sweep,
    fingerprint,
):
    module.register(app)
for name, group in {
    "deletions": deletions.group,
    "receipt": receipt.group,
    "clusters": clusters.group,
    "log": log.group,
    "keys": keys.group,
    "api-keys": api_keys.group,
}.items():
    app.add_typer(group, name=name)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"lmeraser {version('lmeraser')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Machine unlearning as a running service."""


def main() -> None:
    """Run one command. The exit code is 0; 1 if it failed; 2 if it was called wrongly."""
    collect_rarely()
    try:
        # What the base installation lacks is imported inside the commands.
        with needs_extra("server"):
            app()
    except Exception as error:
        reason = reported_error(error)
        if reason is None:
            raise
        Console(stderr=True).print(f"error: {reason}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(USAGE if isinstance(reason, ConfigError) else FAILED)
    except KeyboardInterrupt:
        sys.exit(FAILED)
