"""Thousands of histories of coordinators, owners, ingests, deletions, replicas and restores, each from a seed.

A history runs in one process, on the simulator of ``tests/support/simulator``: two and more coordinators on one store,
one of which is replaced while it still works; ingests that are forced, abandoned or fall silent; deletions by sample
and by subject, of rows that are there and that are not; replicas that answer; a store that is lost and restored. Tasks
take turns at every call of the store, the clock, a lock and the lease, and processes freeze and die there.

    python tests/faults/histories.py --histories 100000 --out docs/evidence/simulator.md
    python tests/faults/histories.py --seed 4711 --histories 1 --trace
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
# As in the services: one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from simulator.breakages import BREAKAGES
from simulator.history import Outcome, run_seed
from simulator.plan import Delete, Ingest, Restore, Serve, Start
from simulator.seams import seams
from simulator.shrinking import shrunk

_PART = 100
_ABOUT = """Lost: an accepted deletion that is not completed at rest, rows of an ingest that succeeded and are not
there, a restore or a history that does not end. Wrong, looked at after every effect on the store:

- an object that the newest commit names is gone, or a coordinator adds to the log after its successor has begun;
- a replica answers from a commit that a deletion superseded, once that one is `erased`;
- a row that an `erased` deletion names lies in any object under `rows/`, `prompts/`, `prompted/`, `removed/`, `heads/`
  or `incoming/`. A forced ingest that began after the deletion was accepted may bring it back. An ingest that still
  runs may hold it under `incoming/`, where it began after the deletion was accepted (the row is left out when the rows
  are added) or wrote it after the erasing commit (it must start again);
- at rest, and again after a new start: another root than that of a fresh run, a row that a deletion names, an
  object that nothing names, an answer to an ingest whose numbers are not those of its rows, a receipt
  that does not hold.

Not wrong, but counted above: what a coordinator wrote while another took over, or its owners, and did not live to
remove. No commit names them, and the next start or sweep removes them.

The simulator is seen to fail: `tests/actors/test_simulator.py` breaks the code in one place at a time, and a
history that is kept there finds it:
"""
_LOST = ("lost request", "lost row", "no rest", "restore")
_MOST_SHRUNK = 5
KINDS: dict[str, Callable[[Outcome], bool]] = {
    "one coordinator": lambda outcome: _starts(outcome) == 1,
    "two coordinators": lambda outcome: _starts(outcome) == 2,
    "three coordinators": lambda outcome: _starts(outcome) == 3,
    "… with a deletion": lambda outcome: _has(outcome, Delete),
    "… with an ingest": lambda outcome: _has(outcome, Ingest),
    "… with both": lambda outcome: _has(outcome, Delete) and _has(outcome, Ingest),
    "… with a forced ingest": lambda outcome: any(isinstance(one, Ingest) and one.force for one in outcome.plan.events),
    "… with replicas": lambda outcome: _has(outcome, Serve),
    "… with a restore": lambda outcome: _has(outcome, Restore),
    "… with a kill": lambda outcome: outcome.kills > 0,
    "… with a freeze": lambda outcome: outcome.freezes > 0,
}


@dataclass
class Tally:
    """What came of some histories.

    Attributes:
        histories, lost, wrong: by kind.
        totals: steps, switches, freezes, kills, objects that were written too late.
        failing: seeds, each with what did not hold.
    """

    histories: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    totals: Counter[str] = field(default_factory=Counter)
    failing: list[tuple[int, str]] = field(default_factory=list)

    def count(self, seed: int, outcome: Outcome) -> None:
        """Add one history."""
        for kind in ("**all**", *(name for name, of_kind in KINDS.items() if of_kind(outcome))):
            self.histories[kind] += 1
            self.lost[kind] += outcome.kind in _LOST
            self.wrong[kind] += outcome.kind is not None and outcome.kind not in _LOST
        for name in ("points", "switches", "freezes", "kills", "late"):
            self.totals[name] += getattr(outcome, name)
        if outcome.wrong is not None:
            self.failing.append((seed, outcome.wrong))

    def add(self, other: Tally) -> None:
        """Add those of another."""
        self.histories += other.histories
        self.lost += other.lost
        self.wrong += other.wrong
        self.totals += other.totals
        self.failing += other.failing


def _starts(outcome: Outcome) -> int:
    return sum(isinstance(event, Start) for event in outcome.plan.events)


def _has(outcome: Outcome, kind: type) -> bool:
    return any(isinstance(event, kind) for event in outcome.plan.events)


def _part(seeds: range) -> Tally:
    logging.disable(logging.CRITICAL)
    tally = Tally()
    with seams() as current:
        for seed in seeds:
            tally.count(seed, run_seed(current, seed))
    return tally


def run_all(histories: int, seed: int, workers: int) -> Tally:
    """Histories of the seeds from ``seed`` on, on so many processes."""
    seeds = range(seed, seed + histories)
    parts = [seeds[start : start + _PART] for start in range(0, len(seeds), _PART)]
    tally = Tally()
    with multiprocessing.get_context("fork").Pool(min(workers, len(parts))) as pool:
        for done in pool.imap_unordered(_part, parts):
            tally.add(done)
            print(f"\r{tally.histories['**all**']} histories, {len(tally.failing)} wrong", end="", file=sys.stderr)
    print(file=sys.stderr)
    tally.failing.sort()
    return tally


def report(seed: int) -> str:
    """A history that goes wrong, shrunk: its plan, the choices that were made, and what happened."""
    logging.disable(logging.CRITICAL)
    with seams() as current:
        short = shrunk(current, run_seed(current, seed))
    return "\n".join([f"seed {seed}: {short.wrong}", *short.trace, repr(short.plan), repr(short.deviations)])


def table(tally: Tally, histories: int, seed: int, seconds: float) -> str:
    """The tallies as a page."""
    totals = tally.totals
    lines = [
        "# Histories on the simulator",
        "",
        f"`python tests/faults/histories.py --histories {histories} --seed {seed}`, "
        f"{datetime.now(UTC).date().isoformat()}, {os.cpu_count()} CPU cores, {seconds / 60:.0f} min.",
        "",
        "| histories with | run | lost | wrong |",
        "| --- | ---: | ---: | ---: |",
        *(
            f"| {kind} | {tally.histories[kind]} | {tally.lost[kind]} | {tally.wrong[kind]} |"
            for kind in (*KINDS, "**all**")
        ),
        "",
        f"Steps {totals['points']:,}, switches {totals['switches']:,}, freezes {totals['freezes']:,}, "
        f"kills {totals['kills']:,}. Objects that a replaced coordinator left behind until the next sweep: "
        f"{totals['late']:,}.",
        "",
        _ABOUT,
        *(f"- {breakage.what}" for breakage in BREAKAGES),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run what the command line asks for; 1 when anything was lost or wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--histories", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--trace", action="store_true", help="print the trace of the first history")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.trace:
        with seams() as current:
            print(*run_seed(current, arguments.seed).trace, sep="\n")
    begun = time.monotonic()
    tally = run_all(arguments.histories, arguments.seed, arguments.workers)
    if arguments.out is not None:
        page = table(tally, arguments.histories, arguments.seed, time.monotonic() - begun)
        arguments.out.write_text(page)
    for seed, wrong in tally.failing:
        print(f"seed {seed}: {wrong}")
    for seed, _ in tally.failing[:_MOST_SHRUNK]:
        print(report(seed))
    print(f"{tally.histories['**all**']} histories, {len(tally.failing)} lost or wrong")
    return 1 if tally.failing else 0


if __name__ == "__main__":
    sys.exit(main())
