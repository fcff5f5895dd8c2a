"""Puts the commands together, and turns errors into exit codes."""

from __future__ import annotations

import sys

import typer
from rich.console import Console

from cluster.cli import (
    audit,
    cluster,
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
    status,
    verify,
)
from lmeraser.errors import ConfigError, LMEraserError

FAILED, USAGE = 1, 2

app = typer.Typer(
    name="lmeraser",
    help="Machine unlearning as a running service.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
for module in (demo, jobs, predict, deletions, status, verify, residue, audit, restore):
    module.register(app)
for name, group in {
    "deletions": deletions.group,
    "receipt": receipt.group,
    "cluster": cluster.group,
    "clusters": clusters.group,
    "log": log.group,
    "keys": keys.group,
}.items():
    app.add_typer(group, name=name)


def main() -> None:
    """Run one command. Exit code 0; 1 when it failed; 2 when it was asked for wrongly."""
    try:
        app()
    except LMEraserError as error:
        _report(error)
        sys.exit(USAGE if isinstance(error, ConfigError) else FAILED)
    except Exception as error:
        if not _is_ray_error(error):
            raise
        _report(LMEraserError(f"Ray: {str(error).strip().splitlines()[0]}"))
        sys.exit(FAILED)
    except KeyboardInterrupt:
        sys.exit(FAILED)


def _is_ray_error(error: Exception) -> bool:
    # Commands that need no Ray do not load it.
    exceptions = sys.modules.get("ray.exceptions")
    return exceptions is not None and isinstance(error, exceptions.RayError)


def _report(error: LMEraserError) -> None:
    # An error that crossed processes carries the remote traceback in its text; its cause does not.
    told = getattr(error, "cause", None) or error
    Console(stderr=True).print(f"error: {told}", style="red", markup=False, highlight=False, soft_wrap=True)
