"""How accurate is each method, and what does a deletion cost with it?

Every method runs on the same backbone, rows and seed. The expected cost is the mean, over all rows, of the row-passes
through the backbone (forward and backward together) that deleting this row alone takes until all tuning is done again;
the formulas are in the modules of ``lmeraser.baselines``. A seed draws the rows, the order of tuning and the coresets;
the public artifacts are those of seed 0. Results are kept under ``--out``, and a run that has one is not made again, so
a broken-off benchmark goes on. Writes ``frontier.json`` with what ``--out`` has of the named settings, and
its figures; what ``--out`` does not have keeps the numbers that are there.

    python -m benchmarks.bench_frontier --data ../shared/data --out /tmp/bench --setting gtsrb --seeds 5
    python -m benchmarks.bench_frontier --data ../shared/data --out /tmp/bench --setting gtsrb --rows 7120 --seeds 3
    python -m benchmarks.bench_frontier --data ../shared/data --out /tmp/bench --setting gtsrb --sweep
    python -m benchmarks.bench_frontier --out /tmp/bench --setting digits --seeds 1

``--sweep`` runs ours with every bound, coreset, number of epochs and kind of prompt at one seed instead of the other
methods. ``--methods`` runs only some methods, ``--collect`` none. The page's tables are made from the JSON by
``benchmarks.write_tables``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.lib.frontier_figure import draw
from benchmarks.lib.harness import results
from benchmarks.lib.plotting import DOCS, NAMES
from benchmarks.lib.runs import compared, sweep_of
from benchmarks.lib.settings import SIZES, find_setting
from benchmarks.lib.summary import Summary, kept_results, summaries

SEEDS = 5
# Fashion-MNIST is not among the project's data: it has to be named.
_SETTINGS = [name for name in SIZES if name != "fashion"]


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
    by_setting = dict(sorted(by_setting.items()))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(by_setting, indent=1) + "\n")
    draw(by_setting, arguments.docs)


if __name__ == "__main__":
    main()
