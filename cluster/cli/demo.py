"""``lmeraser demo``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cluster.cli.options import AsJson, ConfigFile, DataFolder, read_config
from cluster.cli.output import emit, leave_stdout_to_results, print_pairs, progress


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)


def demo(
    workdir: Annotated[Path, typer.Option(help="Folder for the store and the keys.")] = Path("demo-work"),
    config: ConfigFile = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """Run the whole system: train, serve, delete, verify; on bundled data, or on some rows of a configuration.

    With --config, a store of its own is made in the working folder: nothing in the configuration's store changes.

    Example: lmeraser demo --workdir /tmp/demo
    """
    from cluster.demo import CONFIG, run_demo

    leave_stdout_to_results()
    with progress() as report:
        result = run_demo(read_config(config or CONFIG, data), workdir, report)
    pairs = [
        ("private rows", result.rows),
        *((f"left out, {name}", reason) for name, reason in result.skipped.items()),
        ("prompt clusters", result.clusters),
        ("rows of a coreset", result.coreset_rows),
        ("test rows", result.test_rows),
        *((f"accuracy, {name}", f"{value:.3f}") for name, value in result.accuracy.items()),
    ]
    for deletion in result.deletions:
        where = "inside" if deletion["in_coreset"] else "outside"
        pairs += [
            (f"deleted, {where} the coreset", deletion["sample_ids"]),
            ("owners that tuned again", f"{deletion['owners_retuned']} of {deletion['clusters_total']}"),
            ("accepted after", f"{deletion['accepted_s']:.3f} s"),
            ("erased after", f"{deletion['erased_s']:.3f} s"),
            ("completed after", f"{deletion['completed_s']:.3f} s"),
            ("state root", deletion["verify"]["state_root"]),
            ("fresh root", deletion["verify"]["fresh_root"]),
            ("equal, byte for byte", "yes" if deletion["verify"]["equal"] else "NO"),
        ]
    emit(asdict(result), as_json, lambda: print_pairs(pairs))
