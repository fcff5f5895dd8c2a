"""How long do deleted rows go on having an influence on answers, and what does an answer cost?

Two figures from one set of results. *Influence*: seconds from the request until nothing that answers has seen the rows.
Ours is measured on a store with the coordinator's own class (``accepted`` to ``erased``: rows written, sums subtracted,
heads solved, commit, lease, sweep, receipt), by the clock; the others are the processor's seconds that their deletion
takes in this process, without any store (on a GPU, seconds by the clock). The published way never gets there.
*Serving*: what an image costs.

    python benchmarks/influence.py --data ../shared/data --out /tmp/bench
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from contest import Arena, Entry, arena, method_of, results, store_of

# After contest, which puts this folder last.
from deletions import erasing, note
from drawing import COLOURS, DOCS, NAMES, axes, save
from frontier import ESSENTIAL, RETRAIN
from stores import prepared

from lmeraser.state.keys import init_keys
from lmeraser.store import LocalStore

# Rows at which retrain alone is timed too, for what grows with the rows; it takes a third of an hour.
MORE_ROWS = {"cifar10": 16_000}
OURS = Entry("ours")


def main() -> None:
    """Run what is missing, and draw both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, required=True, help="folder in which results are kept")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the figures")
    parser.add_argument("--arena", nargs="*", default=["digits", "gtsrb", "cifar10"])
    parser.add_argument("--deletions", type=int, default=10)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="where rows pass the backbone")
    arguments = parser.parse_args()
    sys.addaudithook(note)
    influence: dict[str, Any] = {}
    serving: dict[str, Any] = {}
    for name in arguments.arena:
        place = arena(name, arguments.data, None, None, arguments.device)
        found = results(place, ESSENTIAL, [0], arguments.out)
        influence[f"{name}, {place.rows} rows"] = without_influence(place, found, arguments)
        serving[name] = {one["entry"]: per_image(one) for one in found}
        if name in MORE_ROWS:
            place = replace(place, rows=MORE_ROWS[name])
            found = results(place, [RETRAIN], [0], arguments.out)
            influence[f"{name}, {place.rows} rows"] = without_influence(place, found, arguments)
    draw_influence(influence, arguments.docs)
    draw_serving(serving, arguments.docs)


def without_influence(place: Arena, found: list[dict[str, Any]], arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds until no answer has seen a deleted row, by method."""
    erased = erased_s(place, arguments.out, arguments.deletions)
    seconds: dict[str, Any] = {"ours": erased["accepted_to_erased_s"], "ours_processor": erased["of_that_cpu_s"]}
    for one in found:
        if one["method"] in ("retrain", "sisa", "sampled", "ridge"):
            cost = one["deletion"][0] if one["deletion"] else one["fit"]
            # A processor that waits for a GPU says nothing of how long.
            taken_s = cost["wall_s"] if arguments.device == "cuda" else cost["processor_s"]
            seconds[one["method"]] = {"median": round(taken_s, 4), "n": 1}
    seconds["retrain_over_ours"] = seconds["retrain"]["median"] / seconds["ours"]["median"]
    return seconds


def erased_s(place: Arena, out: Path, count: int) -> dict[str, Any]:
    """Deletions of one row each from a store of the arena's rows."""
    folder = out / f"erasing-{place.kept_as}"
    shutil.rmtree(folder, ignore_errors=True)
    pipeline, source = method_of(place, out, 0, OURS), store_of(place, out, 0, OURS)
    shutil.copytree(source, folder / "store")
    init_keys(folder / "keys")
    table = pipeline.rows(place.drawn(place.config.private, place.labels, place.rows, 0))
    assert LocalStore(folder / "store").exists("store.json")
    return erasing(prepared(folder, table), 1, count)


def per_image(result: dict[str, Any]) -> dict[str, float]:
    """What answering one image costs."""
    served = result["serving"]
    return {
        "row_passes": served["forward_row_passes"] / served["images"],
        "flops": served["flops"] / served["images"],
        "ms": 1000 * served["wall_s"] / served["images"],
    }


def draw_influence(found: dict[str, Any], docs: Path) -> None:
    """Bars of seconds on a logarithmic scale."""
    drawn, plots = axes(len(found))
    for plot, (name, by_method) in zip(plots, found.items(), strict=True):
        methods = [pipeline for pipeline in NAMES if pipeline in by_method]
        seconds = [statistics.median([by_method[pipeline]["median"]]) for pipeline in methods]
        plot.bar([NAMES[pipeline] for pipeline in methods], seconds, color=[COLOURS[pipeline] for pipeline in methods])
        plot.tick_params(axis="x", labelrotation=20, labelsize=6)
        plot.set_yscale("log")
        plot.set_title(f"{name}; as published: never", fontsize=7)
        plot.set_ylabel("seconds until no influence")
    save(drawn, found, "influence", docs)


def draw_serving(found: dict[str, Any], docs: Path) -> None:
    """Bars of operations."""
    drawn, plots = axes(len(found))
    for plot, (name, by_entry) in zip(plots, found.items(), strict=True):
        plot.barh(
            [NAMES[entry.partition("-")[0]] for entry in by_entry],
            [one["flops"] / 1e6 for one in by_entry.values()],
            color=[COLOURS[entry.partition("-")[0]] for entry in by_entry],
        )
        plot.tick_params(axis="y", labelsize=5)
        plot.set_title(name)
        plot.set_xlabel("million operations an image")
    save(drawn, found, "serving", docs)


if __name__ == "__main__":
    main()
