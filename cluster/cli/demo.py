"""``lmeraser demo``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cluster.cli.options import AsJson
from cluster.cli.output import leave_stdout_to_results, print_json, print_pairs, progress


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
        found = run_demo(workdir, report)
    if as_json:
        print_json(asdict(found))
        return
    deletion = found.deletion
    print_pairs(
        [
            ("private rows", found.rows),
            ("prompt clusters", found.clusters),
            *((f"accuracy, {name}", f"{value:.3f}") for name, value in found.accuracy.items()),
            ("deleted", ", ".join(deletion["sample_ids"])),
            ("owners that tuned again", f"{deletion['owners_retuned']} of {deletion['clusters_total']}"),
            ("accepted after", f"{deletion['accepted_s']:.3f} s"),
            ("erased after", f"{deletion['erased_s']:.3f} s"),
            ("completed after", f"{deletion['completed_s']:.3f} s"),
            ("state root", found.verify["state_root"]),
            ("fresh root", found.verify["fresh_root"]),
            ("equal, byte for byte", "yes" if found.verify["equal"] else "NO"),
        ]
    )
