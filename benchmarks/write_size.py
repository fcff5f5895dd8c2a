"""Writes ``size.json`` from the results of ``bench_scale``, and draws it. ``write_tables`` makes its tables.

Earlier results, "before", are kept in the JSON when none are given.

    python -m benchmarks.write_size --results /tmp/scale/results --before /tmp/scale/before
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from matplotlib.axes import Axes

from benchmarks.lib.plotting import DOCS, one_legend, plots_in_a_row, save
from benchmarks.lib.size_results import SIZES, Results, bytes_per_row, figure_of, p99, read_results

NUMBERS = DOCS / "size.json"
_STYLES = {"now": "-", "before": ":"}
_COLOURS = {"median": "#0072B2", "p99": "#E69F00", "start": "#009E73", "memory": "#CC79A7"}


def main() -> None:
    """Rewrite the JSON and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, help="folder of the results; without it, those of the JSON stay")
    parser.add_argument("--before", type=Path, help="folder of earlier results; without it, those of the JSON stay")
    arguments = parser.parse_args()
    numbers: dict[str, Results] = json.loads(NUMBERS.read_text()) if NUMBERS.exists() else {}
    for name, folder in (("now", arguments.results), ("before", arguments.before)):
        if folder is not None:
            numbers[name] = read_results(folder)
    draw(numbers)


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
    erased.set_ylabel("seconds until one id is erased")
    start.set_ylabel("seconds to the first erasure")
    memory.set_ylabel("bytes of memory per row")
    for plot in (erased, start, memory):
        plot.set_xlabel("rows")
    one_legend(figure, [erased, start, memory])
    save(figure, numbers, "size")


if __name__ == "__main__":
    main()
