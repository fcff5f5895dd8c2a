"""Writes ``size.json`` from the results of ``bench_scale``, draws it, and makes the tables of docs/benchmarks.md.

A table stands in the page between ``<!-- size: NAME -->`` and ``<!-- end of size -->``; names with ``before,`` are of
earlier results, which are kept in the JSON when none are given. A test compares the page with the JSON.

    python -m benchmarks.write_size_tables --results /tmp/scale/results --before /tmp/scale/before
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path

from matplotlib.axes import Axes

from benchmarks.lib.plotting import DOCS, plots_in_a_row, save
from benchmarks.lib.settings import ROOT
from benchmarks.lib.size_results import SIZES, Results, bytes_per_row, figure_of, p99, read_results
from benchmarks.lib.size_tables import tables

PAGE = ROOT / "docs" / "benchmarks.md"
NUMBERS = DOCS / "size.json"
_TABLE = re.compile(r"<!-- size: (.+?) -->\n(.*?)<!-- end of size -->\n", re.DOTALL)
_STYLES = {"now": "-", "before": ":"}
_COLOURS = {"median": "#2050b0", "p99": "#d08020", "start": "#2a7f62", "memory": "#8060c0"}


def main() -> None:
    """Rewrite the JSON, the figure and the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, help="folder of the results; without it, those of the JSON stay")
    parser.add_argument("--before", type=Path, help="folder of earlier results; without it, those of the JSON stay")
    arguments = parser.parse_args()
    numbers: dict[str, Results] = json.loads(NUMBERS.read_text()) if NUMBERS.exists() else {}
    for name, folder in (("now", arguments.results), ("before", arguments.before)):
        if folder is not None:
            numbers[name] = read_results(folder)
    draw(numbers)
    PAGE.write_text(with_tables(PAGE.read_text(), NUMBERS))


def with_tables(page: str, numbers: Path) -> str:
    """The page with its tables made from the JSON. Raises KeyError where the JSON has no such table."""
    known: dict[str, str] = {}
    for name, results in json.loads(numbers.read_text()).items():
        prefix = "" if name == "now" else f"{name}, "
        known |= {f"{prefix}{table}": text for table, text in tables(results).items()}
    return _TABLE.sub(lambda match: f"<!-- size: {match[1]} -->\n\n{known[match[1]]}\n<!-- end of size -->\n", page)


def draw(numbers: dict[str, Results]) -> None:
    """Seconds and memory by rows, all on logarithmic scales."""
    figure, (erased, start, memory) = plots_in_a_row(3)
    lines: tuple[tuple[Axes, str, Callable[[Results, str], float | None]], ...] = (
        (erased, "median", lambda results, store: figure_of(results, store, "one erased_s median")),
        (erased, "p99", lambda results, store: p99(results, store, "one erased_s")),
        (start, "start", lambda results, store: figure_of(results, store, "start erased_s")),
        (memory, "memory", bytes_per_row),
    )
    for name, results in numbers.items():
        for plot, what, value_of in lines:
            by_rows = {int(store): value_of(results, store) for store in SIZES}
            known = {rows: value for rows, value in by_rows.items() if value is not None and value > 0}
            label = what if name == "now" else f"{what}, {name}"
            plot.loglog(list(known), list(known.values()), _STYLES[name], marker="o", color=_COLOURS[what], label=label)
    erased.set_ylabel("seconds until one id is erased, without the lease")
    start.set_ylabel("seconds from a start to the first erasure")
    memory.set_ylabel("bytes of the coordinator's memory per row")
    for plot in (erased, start, memory):
        plot.set_xlabel("rows")
        plot.legend(fontsize=7)
    save(figure, numbers, "size")


if __name__ == "__main__":
    main()
