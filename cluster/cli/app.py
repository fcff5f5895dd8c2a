"""Puts the commands together, and turns errors into exit codes."""

from __future__ import annotations

import sys

import typer
from rich.console import Console

from cluster.cli import (
    api_keys,
    audit,
    clusters,
    deletions,
    demo,
    jobs,
    keys,
    log,
    predict,
    receipt,
    residue,
    restore,
    rollout,
    status,
    verify,
)
from cluster.cli.failures import told
from lmeraser.errors import ConfigError
from lmeraser.extras import needs_extra

FAILED, USAGE = 1, 2

app = typer.Typer(
    name="lmeraser",
    help="Machine unlearning as a running service.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for module in (demo, jobs, predict, deletions, status, verify, residue, audit, restore, rollout):
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


def main() -> None:
    """Run one command. Exit code 0; 1 when it failed; 2 when it was asked for wrongly."""
    try:
        # What the base installation lacks is imported inside the commands.
        with needs_extra("server"):
            app()
    except Exception as error:
        reason = told(error)
        if reason is None:
            raise
        Console(stderr=True).print(f"error: {reason}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(USAGE if isinstance(reason, ConfigError) else FAILED)
    except KeyboardInterrupt:
        sys.exit(FAILED)
