"""Kill the process that rebuilds a store, at random moments, and check that it ends like a fresh store.

Each run copies a small tuned store, and forks a process that rebuilds it and deletes rows meanwhile, with the draft
worked on in a thread as in production. It is killed with SIGKILL at one or two random moments, each anywhere in the
time that the whole takes; then a process that is not killed goes on, as after an operator's restart. Afterwards the
root is that of a fresh store under the new configuration with the remaining rows; the rest of what is checked is in
``crash_points.py``.

    python tests/faults/rebuild_kills.py --runs 20 --out docs/evidence/kills-rebuild.md
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from crash_points import DELETED, RANDOM, RebuildPoints, Tally

from lmeraser.config import StateConfig

CHANGES: dict[str, Callable[[StateConfig], StateConfig]] = {
    "a label more": lambda config: replace(config, labels=(*config.labels, "violet")),
    "larger clusters": lambda config: replace(config, partition=replace(config.partition, max_cluster_rows=9)),
    "more anchors": lambda config: replace(config, partition=replace(config.partition, anchors=8)),
    "another size of images": lambda config: replace(config, backbone=replace(config.backbone, image_px=24)),
}


class Rebuilds(RebuildPoints):
    """Runs of one change of the configuration."""

    def __init__(self, folder: Path, seed: int, change: Callable[[StateConfig], StateConfig]) -> None:
        self._change = change
        super().__init__(folder, seed, DELETED)

    def _config(self) -> StateConfig:
        return self._change(self._original.manifest.config)

    def _drafting(self) -> Executor:
        return ThreadPoolExecutor(1)


def run_all(runs: int, seed: int, changes: Iterable[str]) -> dict[str, Tally]:
    """So many runs of each of these changes."""
    tallies: dict[str, Tally] = {}
    with tempfile.TemporaryDirectory(prefix="lmeraser-rebuilds-") as folder:
        for what in changes:
            (own := Path(folder) / what).mkdir()
            rebuilds, tally = Rebuilds(own, seed, CHANGES[what]), Tally()
            for _ in range(runs):
                rebuilds.run(RANDOM, tally, first_pass=False)
            tallies[what] = tally
            print(what, tally, flush=True)
    return tallies


def added(before: Path, tallies: dict[str, Tally]) -> dict[str, Tally]:
    """These tallies, after those of earlier calls in a JSON file, which they are added to."""
    known = json.loads(before.read_text()) if before.exists() else {}
    together = {name: Tally(**each) for name, each in known.items()} | tallies
    before.write_text(json.dumps({name: asdict(each) for name, each in together.items()}))
    return together


def table(tallies: dict[str, Tally], runs: int, seed: int) -> str:
    """The tallies as a page."""
    total = Tally()
    for tally in tallies.values():
        for name in ("runs", "kills", "finished", "lost", "wrong"):
            setattr(total, name, getattr(total, name) + getattr(tally, name))
    lines = [
        "# Kills during a rebuild",
        "",
        f"`python tests/faults/rebuild_kills.py --runs {runs} --seed {seed}`, {datetime.now(UTC).date().isoformat()}, "
        f"{os.cpu_count()} CPU cores.",
        "The process that rebuilds and deletes is killed with SIGKILL once or twice per run, at random moments; one",
        "that ends before its moment is not. The last one of a run is not killed, and must end like a fresh store.",
        "",
        "| change | runs | kills | finished | lost | wrong |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *(
            f"| {name} | {tally.runs} | {tally.kills} | {tally.finished} | {tally.lost} | {tally.wrong} |"
            for name, tally in (*tallies.items(), ("**all**", total))
        ),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run as the command line says; 1 if anything was lost or wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20, help="of each change")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--changes", nargs="*", default=list(CHANGES), choices=list(CHANGES))
    parser.add_argument("--before", type=Path, help="JSON file of calls for other changes, which go into the same page")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    tallies = run_all(arguments.runs, arguments.seed, arguments.changes)
    if arguments.out is not None:
        shown = tallies if arguments.before is None else added(arguments.before, tallies)
        arguments.out.write_text(table(shown, arguments.runs, arguments.seed))
    faults = [fault for tally in tallies.values() for fault in tally.faults]
    print(*faults, sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
