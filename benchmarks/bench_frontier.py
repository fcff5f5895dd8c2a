"""How accurate is each method, and what does a deletion cost with it?

Every method runs on the same backbone, rows and seed, in a process of its own. The expected cost is the mean, over all
rows, of the row-passes through the backbone (forward and backward together) that deleting this row alone takes until
all tuning is done again; the formulas are in the modules of ``lmeraser.baselines``. A seed draws the rows too. Writes
``frontier.json`` and ``frontier.svg``; a setting that is not run keeps the numbers that it has there. With
``--more-options`` it also writes ``settings.json`` and ``settings.svg``: more options of each method, one seed. Results
are kept under ``--out``: run again to continue.

    python -m benchmarks.bench_frontier --data ../shared/data --out /tmp/bench --more-options gtsrb
    python -m benchmarks.bench_frontier --out /tmp/bench --setting digits --seeds 1
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from benchmarks.lib.harness import Result, results
from benchmarks.lib.methods import Run
from benchmarks.lib.plotting import COLOURS, DOCS, MARKERS, NAMES, interval, plots_in_a_row, save
from benchmarks.lib.runs import RETRAIN, SHARED_HEAD_ONLY, runs_of
from benchmarks.lib.settings import SIZES, find_setting

SEEDS = 5
# These points are labelled on their left; SAMPLED below, because it has a neighbour above.
_LABEL_ON_THE_LEFT = ("retrain", "published")
_LABEL_OFFSETS = {"retrain": (-6, 4), "published": (-6, 4), "sampled": (5, -9)}


def main() -> None:
    """Run what is missing, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, required=True, help="folder in which results are kept")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the figure")
    parser.add_argument("--setting", nargs="*", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--test-rows", type=int)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="where the backbone runs")
    parser.add_argument(
        "--more-options", nargs="*", default=[], choices=list(SIZES), help="settings with more options of each method"
    )
    arguments = parser.parse_args()

    def summarise(name: str, more_options: bool, seeds: int) -> list[Result]:
        setting = find_setting(name, arguments.data, arguments.rows, arguments.test_rows, arguments.device)
        runs = runs_of(name, more_options=more_options)
        return summary(results(setting, runs, range(seeds), arguments.out))

    if arguments.more_options:
        draw({name: summarise(name, True, 1) for name in arguments.more_options}, "settings", arguments.docs)
    new = {name: summarise(name, False, arguments.seeds) for name in arguments.setting}
    file = arguments.docs / "frontier.json"
    known = {**(json.loads(file.read_text()) if file.exists() else {}), **new}
    draw({name: known[name] for name in SIZES if name in known}, "frontier", arguments.docs)


def summary(collected: list[Result]) -> list[Result]:
    """One row per run: means over the seeds, and points over retrain and over the shared head only, seed by seed."""
    by_run: dict[str, list[Result]] = defaultdict(list)
    for result in collected:
        by_run[result["entry"]].append(result)

    def points_over(other: Run, group: list[Result]) -> dict[str, Any]:
        accuracy_of = {result["seed"]: result["accuracy"]["accuracy"] for result in by_run[other.name]}
        return interval([100 * (result["accuracy"]["accuracy"] - accuracy_of[result["seed"]]) for result in group])

    return [
        {
            **_summary_of_run(group),
            "points_over_retrain": points_over(RETRAIN, group),
            "points_over_ridge": points_over(SHARED_HEAD_ONLY, group),
        }
        for group in by_run.values()
    ]


def _summary_of_run(group: list[Result]) -> Result:
    first = group[0]
    constant = ("entry", "method", "settings", "rows", "test_rows", "epochs", "image_px", "clusters", "cores")
    by_image = [
        {name: result["serving"][name] / result["serving"]["images"] for name in result["serving"] if name != "images"}
        for result in group
    ]
    return {
        **{name: first[name] for name in constant},
        "seeds": len(group),
        "accuracy": _intervals([result["accuracy"] for result in group]),
        # Results from before heads were compared have none.
        "unexplained": _intervals([result.get("unexplained", {}) for result in group]),
        "expected_row_passes": interval([result["expected_row_passes"] for result in group]),
        "row_passes_of_requests": _means([result["row_passes_of_requests"] for result in group]),
        "fit": _means([result["fit"] for result in group]),
        # Retrain's deletion is a fit.
        "one_deletion": first["deletion"][0] if first["deletion"] else first["fit"],
        "serving_of_an_image": {
            name: value for name, value in _means(by_image).items() if name in ("forward_row_passes", "flops", "wall_s")
        },
        "dates": sorted({result["date"] for result in group}),
        # Results from before there was the field are of the CPU.
        "gpu": first.get("gpu", ""),
        "load": max(result["load"] for result in group),
    }


def _intervals(values: list[dict[str, float]]) -> dict[str, dict[str, Any]]:
    return {name: interval([value[name] for value in values]) for name in values[0]}


def _means(values: list[dict[str, float]]) -> dict[str, float]:
    return {name: value["mean"] for name, value in _intervals(values).items()}


def draw(by_setting: dict[str, list[Result]], name: str, docs: Path) -> None:
    """Accuracy against expected cost."""
    figure, plots = plots_in_a_row(len(by_setting), *((8.4, 5.0) if len(by_setting) == 1 else ()))
    for plot, (setting, rows) in zip(plots, by_setting.items(), strict=True):
        for row in rows:
            if row["method"] == "ridge":
                _draw_line(plot, row)
            else:
                _draw_point(plot, row)
        plot.set_xscale("log")
        plot.set_title(f"{setting}, {rows[0]['rows']} rows, {rows[0]['seeds']} seed(s)")
        plot.set_xlabel("expected row-passes of a deletion")
        plot.set_ylabel("accuracy")
        plot.margins(x=0.12)
        plot.legend(fontsize=6, loc="lower left")
    save(figure, by_setting, name, docs)


def _draw_line(plot: Axes, row: Result) -> None:
    """The shared head only, whose deletions cost no pass: its accuracy at every cost."""
    options = row["settings"]
    plain = options.get("public_epochs") == 0
    style = ":" if options["depths"] != "several" else "-." if plain else "--"
    label = f"{NAMES['ridge']}, {options['depths']}{', no public prompt' if plain else ''}"
    plot.axhline(row["accuracy"]["accuracy"]["mean"], color=COLOURS["ridge"], linestyle=style, label=label)


def _draw_point(plot: Axes, row: Result) -> None:
    method, accuracy = row["method"], row["accuracy"]["accuracy"]
    point = (row["expected_row_passes"]["mean"], accuracy["mean"])
    plot.errorbar(
        *point,
        accuracy["half_interval"] or None,
        color=COLOURS[method],
        marker=MARKERS[method],
        linestyle="",
        capsize=2,
    )
    plot.annotate(
        f"{NAMES[method]} {options_label(method, row['settings'])}".strip(),
        point,
        _LABEL_OFFSETS.get(method, (5, 4)),
        textcoords="offset points",
        fontsize=6,
        horizontalalignment="right" if method in _LABEL_ON_THE_LEFT else "left",
    )


def options_label(method: str, options: dict[str, Any]) -> str:
    """A method's options, short."""
    epochs = f"{options['epochs']} epochs" if "epochs" in options else ""
    match method:
        case "retrain":
            return "tuned as ours" if "tuned" in options else epochs
        case "sisa":
            return f"S = {options['shards']}"
        case "sampled":
            return f"{options['tuned_rows']} rows"
        case "published":
            return f"{options['clusters']} clusters"
        case "ours":
            parts = (
                f"≤ {options['bound']}" if "bound" in options else "",
                epochs,
                "pad" if options.get("kind") == "pad" else "",
                f"at block {options['depth']}" if "depth" in options else "",
                "no public prompt" if options.keys() == {"public_epochs"} else "",
            )
            return " ".join(part for part in parts if part)
    return ""


if __name__ == "__main__":
    main()
