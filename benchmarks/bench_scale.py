"""What do start, deletions, log and replicas take as the store grows, up to ten million rows?

Stores of numbered rows are made first (benchmarks/lib/numbered_stores.py): tiny images and 64 head features, but real
segments, indexes, heads and log, in clusters of 20,000 rows. Then each measurement runs in a process of its own on a
copy of hard links, with the coordinator's own class, owners in the same process, and no lease to wait for. A result is
one file; what exists is not measured again. One that takes longer than the limit is kept as such.

    python -m benchmarks.bench_scale --stores /tmp/scale/stores --out /tmp/scale/results
    python -m benchmarks.write_size --results /tmp/scale/results
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lib.harness import machine
from benchmarks.lib.numbered_stores import MAX_CLUSTER_ROWS, NumberedStore, copy_of, make
from benchmarks.lib.one_measurement import NAMES
from benchmarks.lib.settings import ROOT

# The first is what the memory of the others is held against.
SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
_AT_EVERY_SIZE = ("start", "replica", "one", "thousand", "requests", "bulk", "tenth")


@dataclass(frozen=True)
class Subject:
    """A store, and what is measured of it.

    Attributes:
        name: of the store and of the folder of its results.
        rows, max_cluster_rows: what it is made with.
        measurements: their names.
    """

    name: str
    rows: int
    max_cluster_rows: int
    measurements: tuple[str, ...]


def main() -> None:
    """Make what is missing, and measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stores", type=Path, required=True, help="folder of the stores, up to 10 GB; kept")
    parser.add_argument("--out", type=Path, required=True, help="folder in which results are kept")
    parser.add_argument("--rows", type=int, nargs="*", default=list(SIZES), help="sizes of the stores")
    parser.add_argument("--only", nargs="*", default=list(NAMES), choices=NAMES, help="measurements")
    parser.add_argument("--processes", type=int, default=1, help="that make a store")
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds of one measurement")
    arguments = parser.parse_args()
    for subject in subjects(arguments.rows):
        missing = [
            name
            for name in subject.measurements
            if name in arguments.only and not _result(arguments.out, subject, name).exists()
        ]
        if missing:
            folder = arguments.stores / subject.name
            make(folder, subject.rows, subject.max_cluster_rows, arguments.processes)
        for name in missing:
            measure(arguments.stores, arguments.out, subject, name, arguments.limit)


def subjects(sizes: list[int]) -> Iterator[Subject]:
    """The stores of these sizes, and two for questions that do not depend on the number of rows."""
    for rows in sizes:
        yield Subject(str(rows), rows, MAX_CLUSTER_ROWS, _AT_EVERY_SIZE if rows != SIZES[0] else ("start",))
    yield Subject("log", 10_000, MAX_CLUSTER_ROWS, ("log",))
    yield Subject("many-clusters", 20_000, 20, ("idle",))


def measure(stores: Path, out: Path, subject: Subject, name: str, limit_s: float) -> None:
    """Have one measurement made, and keep its result."""
    before = machine()
    program = [sys.executable, "-m", "benchmarks.lib.one_measurement", name]
    with copy_of(NumberedStore(stores / subject.name), name) as copy:
        try:
            done = subprocess.run(
                [*program, str(copy.folder)],
                cwd=ROOT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE,
                check=True,
                timeout=limit_s,
            )
            figures = json.loads(done.stdout)
        except subprocess.TimeoutExpired:
            figures = {"more_than_s": limit_s}
    result = {"measurement": name, "rows": subject.rows, **figures, **before}
    file = _result(out, subject, name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({"store": subject.name, **result}), flush=True)


def _result(out: Path, subject: Subject, name: str) -> Path:
    return out / subject.name / f"{name}.json"


if __name__ == "__main__":
    main()
