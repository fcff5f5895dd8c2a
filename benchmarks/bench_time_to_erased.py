"""How long do deleted rows still influence answers, and what does an answer cost?

Two figures from one set of results. *Time to erased*: seconds from the request until nothing that answers has seen the
rows. Ours is measured by the clock on a store with the coordinator's own class (``accepted`` to ``erased``: rows
written, sums subtracted, heads solved, commit, lease, sweep, receipt); the others are the processor's seconds that
their deletion takes in this process, without any store (on a GPU, seconds by the clock). The published method never
gets there. *Serving*: what an image costs. Writes ``influence.json``, ``serving.json`` and their SVG files.

    python -m benchmarks.bench_time_to_erased --data ../shared/data --out /tmp/bench
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.lib.erasure import erase_one_by_one, note_steps
from benchmarks.lib.harness import Result, results
from benchmarks.lib.pipelines import open_pipeline, store_folder
from benchmarks.lib.plotting import COLOURS, DOCS, NAMES, plots_in_a_row, save
from benchmarks.lib.runs import DEFAULT, ESSENTIAL, RETRAIN
from benchmarks.lib.settings import SIZES, Setting, find_setting
from benchmarks.lib.synthetic_stores import fill
from lmeraser.state.keys import init_keys

# Rows with which retrain alone is timed too, because its seconds grow with the rows; takes about 20 minutes.
MORE_ROWS = {"cifar10": 16_000}
# Methods whose deletion, or fit, ends the influence of a row.
_TIMED = ("retrain", "sisa", "sampled", "ridge")


def main() -> None:
    """Run what is missing, and draw both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, required=True, help="folder in which results are kept")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the figures")
    parser.add_argument("--setting", nargs="*", default=["digits", "gtsrb", "cifar10"], choices=list(SIZES))
    parser.add_argument("--deletions", type=int, default=10)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="where the backbone runs")
    arguments = parser.parse_args()
    note_steps()
    times: dict[str, Any] = {}
    serving: dict[str, Any] = {}
    for name in arguments.setting:
        setting = find_setting(name, arguments.data, device=arguments.device)
        collected = results(setting, ESSENTIAL, [0], arguments.out)
        times[f"{name}, {setting.rows} rows"] = times_to_erased(setting, collected, arguments.out, arguments.deletions)
        serving[name] = {result["entry"]: cost_of_an_image(result) for result in collected}
        if name in MORE_ROWS:
            setting = replace(setting, rows=MORE_ROWS[name])
            collected = results(setting, [RETRAIN], [0], arguments.out)
            times[f"{name}, {setting.rows} rows"] = times_to_erased(
                setting, collected, arguments.out, arguments.deletions
            )
    draw_times(times, arguments.docs)
    draw_serving(serving, arguments.docs)


def times_to_erased(setting: Setting, collected: list[Result], out: Path, deletions: int) -> dict[str, Any]:
    """Seconds until no answer has seen a deleted row, by method."""
    ours = erase_from_store(setting, out, deletions)
    seconds: dict[str, Any] = {"ours": ours["accepted_to_erased_s"], "ours_processor": ours["of_that_cpu_s"]}
    # Processor seconds do not count what a GPU does.
    counted = "wall_s" if setting.config.backbone.device == "cuda" else "processor_s"
    for result in collected:
        if result["method"] in _TIMED:
            cost = result["deletion"][0] if result["deletion"] else result["fit"]
            seconds[result["method"]] = {"median": round(cost[counted], 4), "n": 1}
    seconds["retrain_over_ours"] = seconds["retrain"]["median"] / seconds["ours"]["median"]
    return seconds


def erase_from_store(setting: Setting, out: Path, count: int) -> dict[str, Any]:
    """Deletions of one row each from a store of the setting's rows."""
    folder = out / f"erasing-{setting.results_key}"
    shutil.rmtree(folder, ignore_errors=True)
    pipeline = open_pipeline(setting, out, 0, DEFAULT)
    shutil.copytree(store_folder(setting, out, DEFAULT), folder / "store")
    init_keys(folder / "keys")
    return erase_one_by_one(fill(folder, pipeline.rows(setting.training_rows(0))), 1, count)


def cost_of_an_image(result: Result) -> dict[str, float]:
    """What answering one image costs."""
    serving = result["serving"]
    return {
        "row_passes": serving["forward_row_passes"] / serving["images"],
        "flops": serving["flops"] / serving["images"],
        "ms": 1000 * serving["wall_s"] / serving["images"],
    }


def draw_times(times: dict[str, Any], docs: Path) -> None:
    """Bars of seconds on a logarithmic scale."""
    figure, plots = plots_in_a_row(len(times))
    for plot, (name, by_method) in zip(plots, times.items(), strict=True):
        methods = [method for method in NAMES if method in by_method]
        seconds = [by_method[method]["median"] for method in methods]
        plot.bar([NAMES[method] for method in methods], seconds, color=[COLOURS[method] for method in methods])
        plot.tick_params(axis="x", labelrotation=20, labelsize=6)
        plot.set_yscale("log")
        plot.set_title(f"{name}; {NAMES['published']}: never", fontsize=7)
        plot.set_ylabel("seconds until no influence")
    save(figure, times, "influence", docs)


def draw_serving(by_setting: dict[str, Any], docs: Path) -> None:
    """Bars of operations."""
    figure, plots = plots_in_a_row(len(by_setting))
    for plot, (name, by_run) in zip(plots, by_setting.items(), strict=True):
        methods = [run.partition("-")[0] for run in by_run]
        plot.barh(
            [NAMES[method] for method in methods],
            [cost["flops"] / 1e6 for cost in by_run.values()],
            color=[COLOURS[method] for method in methods],
        )
        plot.tick_params(axis="y", labelsize=5)
        plot.set_title(name)
        plot.set_xlabel("million operations per image")
    save(figure, by_setting, "serving", docs)


if __name__ == "__main__":
    main()
