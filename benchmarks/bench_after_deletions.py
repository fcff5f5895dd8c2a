"""How accurate is each method after part of the rows is deleted, one request after the other?

The seed draws the order in which rows are deleted. Retrain, SISA, shared head only and ours have, after any sequence of
deletions, the state of a fresh fit to the remaining rows (tests hold this), so a fresh fit is what runs. The published
method does not: its prototypes and the parts of clusters that no request touched stay as they were, and each touched
part is made again from its remaining rows; that is what runs for it. Writes ``after_deletions.json`` and ``.svg``.

    python -m benchmarks.bench_after_deletions --data ../shared/data --out /tmp/bench
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.lib.harness import Result, results
from benchmarks.lib.plotting import COLOURS, DOCS, MARKERS, NAMES, interval, one_legend, plots_in_a_row, save
from benchmarks.lib.runs import ESSENTIAL
from benchmarks.lib.settings import SIZES, find_setting

SHARES = (0, 1, 5, 10, 25, 50)
# Mean and interval by method, by share of deleted rows in percent.
Accuracies = dict[str, dict[str, dict[str, float | int]]]


def main() -> None:
    """Run what is missing, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, required=True, help="folder in which results are kept")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the figure")
    parser.add_argument("--setting", nargs="*", default=["digits"], choices=list(SIZES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shares", nargs="*", type=int, default=list(SHARES), help="percent of the rows")
    arguments = parser.parse_args()
    by_setting: dict[str, Accuracies] = {}
    for name in arguments.setting:
        setting, seeds = find_setting(name, arguments.data), range(arguments.seeds)
        by_setting[name] = {
            str(share): by_method(
                results(setting, ESSENTIAL, seeds, arguments.out, deleted_share=share / 100, with_work=False)
            )
            for share in arguments.shares
        }
    draw(by_setting, arguments.docs)


def by_method(collected: list[Result]) -> dict[str, dict[str, float | int]]:
    """Mean accuracy and its interval over the seeds, by method."""
    methods = dict.fromkeys(result["method"] for result in collected)
    return {
        method: interval([result["accuracy"]["accuracy"] for result in collected if result["method"] == method])
        for method in methods
    }


def draw(by_setting: dict[str, Accuracies], docs: Path) -> None:
    """Accuracy by the share of deleted rows."""
    figure, plots = plots_in_a_row(len(by_setting), width=9.0, height=4.2)
    for plot, (name, by_share) in zip(plots, by_setting.items(), strict=True):
        shares = [int(share) for share in by_share]
        for method in next(iter(by_share.values())):
            values = [by_share[str(share)][method] for share in shares]
            plot.errorbar(
                shares,
                [value["mean"] for value in values],
                [value["half_interval"] for value in values],
                color=COLOURS[method],
                marker=MARKERS[method],
                label=NAMES[method],
                capsize=2,
            )
        plot.set_title(f"{name}, {next(iter(next(iter(by_share.values())).values()))['n']} seed(s)")
        plot.set_xlabel("rows deleted (%)")
        plot.set_ylabel("accuracy")
    one_legend(figure, plots)
    save(figure, by_setting, "after_deletions", docs)


if __name__ == "__main__":
    main()
