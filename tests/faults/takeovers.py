"""Two coordinators on one store, with every pair of pauses between their steps.

The first coordinator erases a row, tunes, and abandons an ingest. It is stopped at one fail point of a deletion, like
a frozen process. A second coordinator takes over, erases another row, and is stopped at a fail point as well. Then the
first continues to its end, and after it the second. Nothing that was acknowledged may be lost, the root has to
be that of a fresh run on the remaining rows, and every object of the newest commit has to exist.

    python tests/faults/takeovers.py --out docs/evidence/takeovers.md
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from commits import receipts_of
from paused import Paused
from small_system import System, build_system, finish, samples
from stored_rows import rows_of

from actors.coordinator import Coordinator
from actors.fail_points import FailPoint
from actors.incoming import put_rows
from actors.owners import InProcessOwners
from lmeraser.data import Sample
from lmeraser.deletion import DeletionRequest
from lmeraser.errors import FencedError
from lmeraser.proof.receipts import verify_receipt
from lmeraser.state.keys import load_signing_key
from lmeraser.state.layout import DATA_FOLDERS
from lmeraser.state.pipeline import Pipeline
from lmeraser.state.rows import RowTable
from lmeraser.store import LocalStore

# A deletion does not pass those of a rebuild.
STEPS = tuple(step for step in FailPoint if not step.startswith(("draft ", "switch ", "manifest ")))
ROWS = samples(0, 24)
FIRST, SECOND = "s3", "s11"
ABANDONED = samples(30, 34)


class Takeovers:
    """Runs on copies of one store."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._original = build_system(folder / "original", "minute", 0)
        self._original.ingest(ROWS)
        self._pipeline: Pipeline = self._original.pipeline()
        self._abandoned: RowTable = self._pipeline.rows(ABANDONED)
        self._runs = 0
        self._roots: dict[frozenset[str], str] = {}

    def run(self, first_at: str, second_at: str) -> list[str]:
        """One run; returns the faults afterwards."""
        self._runs += 1
        store = LocalStore(self._folder / str(self._runs))
        for name in self._original.store.names():
            store.put(name, self._original.store.get(name))
        system = replace(self._original, store=store)
        acknowledged: list[str] = []
        first, second = self._coordinator(system), None
        # An ingest that the first coordinator has to sweep away.
        prefix = first.begin_ingest()
        put_rows(store, system.hash_key, f"{prefix}0", self._abandoned, seed=system.manifest.config.seed)
        paused = Paused(lambda: self._work(first, FIRST, acknowledged, prefix), first_at)
        paused.start()
        second = self._coordinator(system)
        successor = Paused(lambda: self._work(second, SECOND, acknowledged, None), second_at)
        successor.start()
        paused.go_on()
        successor.go_on()
        faults = [f"the second coordinator failed: {successor.error!r}"] if successor.error is not None else []
        if paused.error is not None and not isinstance(paused.error, FencedError):
            faults.append(f"the first coordinator failed: {paused.error!r}")
        return [*faults, *self._faults(system, acknowledged)]

    def _coordinator(self, system: System) -> Coordinator:
        owners = InProcessOwners(system.store, system.manifest, system.hash_key, lambda: self._pipeline)
        return Coordinator(system.store, system.manifest, system.hash_key, load_signing_key(system.keys), owners, 0.0)

    def _work(self, coordinator: Coordinator, sample_id: str, acknowledged: list[str], prefix: str | None) -> None:
        coordinator.delete(DeletionRequest((sample_id,)))
        acknowledged.append(sample_id)
        if prefix is not None:
            coordinator.prefixes.drop(prefix)
        finish(coordinator)

    def _faults(self, system: System, acknowledged: Iterable[str]) -> Iterable[str]:
        store, newest = system.store, system.newest()
        missing = sorted(newest.objects().difference(store.names()))
        if missing:
            yield f"{len(missing)} objects of the newest commit are missing, such as {missing[0]}"
            return
        # Restarted, as by an operator: every request is carried out.
        finish(self._coordinator(system))
        newest = system.newest()
        stored = {name for entry in newest.clusters for name in rows_of(store, entry).sample_ids}
        if not_erased := stored.intersection(acknowledged):
            yield f"acknowledged and not erased: {sorted(not_erased)}"
        if missing_rows := {row.sample_id for row in ROWS} - stored - {FIRST, SECOND}:
            yield f"rows that were not deleted are missing: {sorted(missing_rows)}"
        if newest.root != self._root([row for row in ROWS if row.sample_id in stored]):
            yield "the root is not that of a fresh run"
        listed = {name for prefix in DATA_FOLDERS for name in store.names(prefix)}
        if listed != newest.objects():
            yield f"{len(listed ^ newest.objects())} objects are not those of the newest commit"
        for name, names in receipts_of(store).items():
            receipt = json.loads(store.get(names[-1]))
            verify_receipt(receipt, load_signing_key(system.keys).public_key())
            if receipt["completed"] is None:
                yield f"deletion {name} is completed, and its receipt does not say so"

    def _root(self, rows: list[Sample]) -> str:
        key = frozenset(row.sample_id for row in rows)
        if key not in self._roots:
            self._roots[key] = self._original.fresh_root(rows)
        return self._roots[key]


def pairs() -> list[tuple[str, str]]:
    """Every pair of fail points."""
    names = [step.value for step in STEPS]
    return list(itertools.product(names, names))


def run_all(every: int, report: Callable[[str], None]) -> dict[str, list[list[str]]]:
    """Every n-th pair; gives the faults of each run, by the fail point at which the first coordinator was stopped."""
    runs: dict[str, list[list[str]]] = {step.value: [] for step in STEPS}
    with tempfile.TemporaryDirectory(prefix="lmeraser-takeovers-") as folder:
        takeovers = Takeovers(Path(folder))
        for first_at, second_at in pairs()[::every]:
            wrong = takeovers.run(first_at, second_at)
            report(f"{first_at} / {second_at}: {len(wrong)} wrong")
            runs[first_at].append([f"{first_at} / {second_at}: {fault}" for fault in wrong])
    return runs


def table(runs: dict[str, list[list[str]]], every: int) -> str:
    """The faults as a page."""
    command = "python tests/faults/takeovers.py" + (f" --every {every}" if every > 1 else "")
    lines = [
        "# Two coordinators on one store",
        "",
        f"`{command}`, {datetime.now(UTC).date().isoformat()}, {os.cpu_count()} CPU cores.",
        "The first coordinator is stopped at the named fail point, a second one takes over and is stopped at each",
        "fail point in turn, or with `--every n` at each n-th; then the first goes on, then the second. The script",
        "says what is checked afterwards.",
        "",
        "| the first is stopped at | runs | wrong |",
        "| --- | ---: | ---: |",
        *(f"| {name} | {len(each)} | {sum(map(len, each))} |" for name, each in runs.items()),
        f"| **all** | {sum(map(len, runs.values()))} | {sum(len(run) for each in runs.values() for run in each)} |",
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run all pairs; 1 if anything was lost or wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="run every n-th pair")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    runs = run_all(arguments.every, lambda line: print(line, flush=True))
    if arguments.out is not None:
        arguments.out.write_text(table(runs, arguments.every))
    faults = [fault for each in runs.values() for run in each for fault in run]
    print(*faults, sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
