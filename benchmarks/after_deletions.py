"""How accurate is each method after part of the rows is deleted, one request after the other?

Rows go in an order drawn by the seed. Retrain, SISA, ridge only and ours have, after any sequence of deletions, the
state of a fresh fit on the rows that are left (tests hold this), so that is what is run. The published way has not: its
prototypes and the parts of clusters that no request touched stay as they were, and each touched part is made again from
what is left of its rows; that is what is run for it. Writes ``after_deletions.json`` and ``.svg``.

    python benchmarks/after_deletions.py --data ../shared/data --out /tmp/bench
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from contest import arena, results
from drawing import COLOURS, DOCS, MARKERS, NAMES, axes, interval, save
from frontier import ESSENTIAL

SHARES = (0, 1, 5, 10, 25, 50)


def main() -> None:
    """Run what is missing, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, required=True, help="folder in which results are kept")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the figure")
    parser.add_argument("--arena", nargs="*", default=["digits"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shares", nargs="*", type=int, default=list(SHARES), help="percent of the rows")
    arguments = parser.parse_args()
    found = {}
    for name in arguments.arena:
        place = arena(name, arguments.data, None, None)
        found[name] = {
            str(share): accuracies(
                results(place, ESSENTIAL, range(arguments.seeds), arguments.out, deleted=share / 100)
            )
            for share in arguments.shares
        }
    draw(found, arguments.docs)


def accuracies(found: list[dict[str, Any]]) -> dict[str, dict[str, float | int]]:
    """Mean and interval over the seeds by method."""
    methods = dict.fromkeys(one["method"] for one in found)
    return {
        method: interval([one["accuracy"]["accuracy"] for one in found if one["method"] == method])
        for method in methods
    }


def draw(found: dict[str, dict[str, dict[str, dict[str, float | int]]]], docs: Path) -> None:
    """Accuracy by the share that is gone."""
    drawn, plots = axes(len(found))
    for plot, (name, by_share) in zip(plots, found.items(), strict=True):
        shares = [int(share) for share in by_share]
        for pipeline in next(iter(by_share.values())):
            values = [by_share[str(share)][pipeline] for share in shares]
            plot.errorbar(
                shares,
                [value["mean"] for value in values],
                [value["half_interval"] for value in values],
                color=COLOURS[pipeline],
                marker=MARKERS[pipeline],
                label=NAMES[pipeline],
                capsize=2,
            )
        plot.set_title(f"{name}, {next(iter(next(iter(by_share.values())).values()))['n']} seed(s)")
        plot.set_xlabel("rows deleted (%)")
        plot.set_ylabel("accuracy")
        plot.legend(fontsize=7)
    save(drawn, found, "after_deletions", docs)


if __name__ == "__main__":
    main()
