"""How accurate is each method, and what does a deletion cost with it?

Every method runs on the same backbone, rows and seed. The expected cost is the mean, over all rows, of the row-passes
through the backbone (forward and backward together) that deleting this row alone takes until all tuning is done again;
the formulas are in the modules of ``lmeraser.baselines``. A seed draws the rows, the order of tuning and the coresets;
the public artifacts are those of seed 0. Results are kept under ``--out``, and a run that has one is not made again, so
a broken-off benchmark goes on. Writes ``frontier.json`` with what ``--out`` has of the named settings, and
``frontier.svg``; what ``--out`` does not have keeps the numbers that are there.

    python -m benchmarks.bench_frontier --data ../shared/data --out /tmp/bench --setting gtsrb --seeds 5
    python -m benchmarks.bench_frontier --data ../shared/data --out /tmp/bench --setting gtsrb --rows 7120 --seeds 3
    python -m benchmarks.bench_frontier --data ../shared/data --out /tmp/bench --setting gtsrb --sweep
    python -m benchmarks.bench_frontier --out /tmp/bench --setting digits --seeds 1

``--sweep`` runs ours with every bound, coreset, number of epochs and kind of prompt at one seed instead of the other
methods. ``--methods`` runs only some methods, ``--collect`` none. The page's tables are made from the JSON by
``benchmarks.write_frontier_tables``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from benchmarks.lib.harness import results
from benchmarks.lib.plotting import COLOURS, DOCS, MARKERS, NAMES, interval, plots_in_a_row, save
from benchmarks.lib.runs import SHARED_HEAD_ONLY, compared, label, sweep_of
from benchmarks.lib.settings import SIZES, find_setting
from benchmarks.lib.summary import Summary, kept_results, of_run, summaries

SEEDS = 5
# Fashion-MNIST is not among the project's data: it has to be named.
_SETTINGS = [name for name in SIZES if name != "fashion"]
# Only these are drawn: of the sweep there is a table.
_DRAWN = {run.name for run in compared()}


def main() -> None:
    """Run what is missing, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, required=True, help="folder in which results are kept")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the figure")
    parser.add_argument("--setting", nargs="*", default=_SETTINGS, choices=list(SIZES))
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--test-rows", type=int)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="where the backbone runs")
    parser.add_argument("--methods", nargs="*", choices=list(NAMES), default=list(NAMES), help="leave out the others")
    parser.add_argument("--sweep", action="store_true", help="options of ours, at one seed")
    parser.add_argument("--collect", action="store_true", help="run nothing")
    arguments = parser.parse_args()

    file = arguments.docs / "frontier.json"
    by_setting: dict[str, list[Summary]] = json.loads(file.read_text()) if file.exists() else {}
    for name in arguments.setting:
        setting = find_setting(name, arguments.data, arguments.rows, arguments.test_rows, arguments.device)
        runs = sweep_of(name) if arguments.sweep else compared()
        runs = [run for run in runs if run.method in arguments.methods and not arguments.collect]
        seeds = range(1 if arguments.sweep else arguments.seeds)
        results(setting, runs, seeds, arguments.out, with_work=not arguments.sweep)
        key = f"{setting.results_key} {setting.rows}"
        new = summaries(kept_results(setting, arguments.out))
        made = {row["entry"] for row in new}
        # Earlier results are held against their own shared head, so they stay as a set.
        kept = [row for row in by_setting.get(key, []) if "earlier" in row or row["entry"] not in made]
        by_setting[key] = new + kept
    draw(dict(sorted(by_setting.items())), arguments.docs)


def draw(by_setting: dict[str, list[Summary]], docs: Path) -> None:
    """Accuracy against expected cost."""
    figure, plots = plots_in_a_row(len(by_setting), *((8.4, 5.0) if len(by_setting) == 1 else ()))
    for plot, (setting, rows) in zip(plots, by_setting.items(), strict=True):
        shared = of_run(SHARED_HEAD_ONLY, rows)
        if shared is not None:
            mean = np.mean(shared["accuracy"]["accuracy"])
            plot.axhline(mean, color=COLOURS["ridge"], linestyle="--", label=NAMES["ridge"])
            plot.legend(fontsize=6, loc="lower left")
        for row in rows:
            if row["entry"] in _DRAWN and row["method"] != "ridge":
                _draw_point(plot, row)
        plot.set_xscale("log")
        plot.set_title(f"{setting} rows, {max(len(row['seeds']) for row in rows)} seed(s)")
        plot.set_xlabel("expected row-passes of a deletion")
        plot.set_ylabel("accuracy")
        plot.margins(x=0.12)
    save(figure, by_setting, "frontier", docs)


def _draw_point(plot: Axes, row: Summary) -> None:
    method, accuracy = row["method"], interval(row["accuracy"]["accuracy"])
    point = (float(np.mean(row["row_passes_of_one_row"]["expected"])), accuracy["mean"])
    plot.errorbar(
        *point,
        accuracy["half_interval"] or None,
        color=COLOURS[method],
        marker=MARKERS[method],
        linestyle="",
        capsize=2,
    )
    on_the_left = method in ("retrain", "published")
    plot.annotate(
        label(row["method"], row["settings"]),
        point,
        (-6, 4) if on_the_left else (5, 4),
        textcoords="offset points",
        fontsize=6,
        horizontalalignment="right" if on_the_left else "left",
    )


if __name__ == "__main__":
    main()
