"""``lmeraser demo``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cluster.cli.options import AsJson
from cluster.cli.output import emit, leave_stdout_to_results, print_pairs, progress


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)


def demo(
    workdir: Annotated[Path, typer.Option(help="Folder for the store and the keys.")] = Path("demo-work"),
    as_json: AsJson = False,
) -> None:
    """Run the whole system on bundled data: train, serve, delete, verify.

    Example: lmeraser demo --workdir /tmp/demo
    """
    from cluster.demo import run_demo

    leave_stdout_to_results()
    with progress() as report:
        result = run_demo(workdir, report)
    pairs = [
        ("private rows", result.rows),
        ("prompt clusters", result.clusters),
        ("rows of a coreset", result.coreset_rows),
        ("test rows", result.test_rows),
        *((f"accuracy, {name}", f"{value:.3f}") for name, value in result.accuracy.items()),
    ]
    for deletion, where in zip(result.deletions, ("outside", "inside"), strict=True):
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
