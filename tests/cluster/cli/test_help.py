"""What the command line says of itself: its commands, their help and options, its version."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import typer
from command_line import Run

from cluster.cli import app

COMMANDS = {
    *("demo", "pretrain", "ingest", "tune", "serve", "predict", "preview", "delete", "status", "verify"),
    *("deletions list", "deletions show", "deletions wait", "receipt show", "receipt verify"),
    *(
        "rollout",
        "rebuild",
        "upgrade",
        "fingerprint",
        "clusters list",
        "clusters show",
        "log show",
        "log check",
        "keys init",
    ),
}


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    for name, child in getattr(command, "commands", {}).items():
        yield from leaves(child, (*path, name))
    if not hasattr(command, "commands"):
        yield " ".join(path)


def test_every_command_is_there_and_its_help_has_an_example(lmeraser: Run) -> None:
    found = set(leaves(typer.main.get_command(app.app)))
    assert found >= COMMANDS
    for name in sorted(found):
        shown = lmeraser(*name.split(), "--help")
        assert shown.code == 0, name
        assert f"Example: lmeraser {name}" in " ".join(shown.out.split()), name


def test_the_version_is_that_of_the_package(lmeraser: Run) -> None:
    shown = lmeraser("--version")
    assert (shown.code, shown.out) == (0, f"lmeraser {version('lmeraser')}\n")


def test_every_command_on_a_store_takes_the_same_options(lmeraser: Run) -> None:
    for name in sorted(
        set(leaves(typer.main.get_command(app.app))) - {"demo", "init", "predict", "receipt verify", "fingerprint"}
    ):
        options = set(re.findall(r"--[\w-]+", lmeraser(*name.split(), "--help").out))
        assert "--json" in options, name
        if "keys" not in name:
            assert {"--store", "--s3-endpoint", "--config"} <= options, name
