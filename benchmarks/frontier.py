"""What accuracy does each method give, and what does a deletion cost with it?

Every method meets on the same backbone, rows and seed, each in a process of its own. The expected cost is the mean,
over all rows, of the row-passes through the backbone (forward and backward together) that deleting this row alone takes
until all is tuned again; formulas stand in the modules of ``lmeraser.baselines``. A seed draws the rows, too. Writes
``frontier.json`` and ``frontier.svg``; an arena that is not run keeps the numbers that it has there. ``--settings``
writes ``settings.json`` and ``settings.svg`` as well: more settings of each method, one seed. Results are kept under
``--out``: run again to go on.

    python benchmarks/frontier.py --data ../shared/data --out /tmp/bench --settings gtsrb
    python benchmarks/frontier.py --out /tmp/bench --arena digits --seeds 1
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from contest import Entry, arena, results
from drawing import COLOURS, DOCS, MARKERS, NAMES, axes, interval, save

RATE = 10.0
RIDGE, RETRAIN = Entry("ridge", (("depths", "several"),)), Entry("retrain")
ESSENTIAL = (
    RIDGE,
    RETRAIN,
    Entry("published", (("clusters", 5), ("rate", RATE))),
    Entry("sisa", (("shards", 5), ("slices", 3))),
    Entry("ours"),
    Entry("sampled", (("tuned_rows", 300),)),
)
# One prompt for all rows, tuned from the public prompt and for the closed-form head, as ours are.
RETRAIN_AS_OURS = Entry("retrain", (("tuned", "as_ours"),))
RIDGE_PLAIN = Entry("ridge", (("depths", "several"), ("public_epochs", 0)))
MORE = (
    RIDGE_PLAIN,
    Entry("ours", (("public_epochs", 0),)),
    Entry("ridge", (("depths", "last"), ("public_epochs", 0))),
    Entry("ours", (("bound", 150),)),
    Entry("ours", (("bound", 300),)),
    Entry("ours", (("bound", 1000),)),
    Entry("ours", (("epochs", 2),)),
    Entry("retrain", (("epochs", 2),)),
    Entry("sisa", (("shards", 20), ("slices", 3))),
    Entry("published", (("clusters", 14), ("rate", RATE))),
    Entry("ours", (("kind", "pad"), ("pad_px", 4), ("public_epochs", 0))),
)
# Where labels stand: on the left of what is on the right, and below what has a neighbour above.
DEAREST = ("retrain", "published")
OFFSETS = {"retrain": (-6, 4), "published": (-6, 4), "sampled": (5, -9)}
# Block at which prompts enter: half of the blocks, and three quarters.
DEEP = {
    "digits": (3, 4),
    "mnist": (3, 4),
    "gtsrb": (6, 9),
    "cifar10": (6, 9),
}
SEEDS = {"digits": 5, "mnist": 5, "gtsrb": 5, "cifar10": 5}
# Their backbone was trained on the public rows of the public prompt.
GLYPHS = ("digits", "mnist")
# So many rows that a lower bound on clusters leaves many of them.
LARGE = ("mnist",)


def entries(place: str, settings: bool) -> list[Entry]:
    """The methods of an arena, and with ``settings`` several settings of each."""
    chosen = [*ESSENTIAL, RETRAIN_AS_OURS]
    if place in GLYPHS:
        chosen.append(RIDGE_PLAIN)
    if place in LARGE:
        chosen.append(Entry("ours", (("bound", 200),)))
    if settings:
        chosen += [*MORE, *deep(place)]
    return list(dict.fromkeys(chosen))


def deep(place: str) -> list[Entry]:
    """Ours with tokens that enter half-way up, and at three quarters."""
    return [Entry("ours", (("depth", depth), ("public_epochs", 0))) for depth in DEEP[place]]


def main() -> None:
    """Run what is missing, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, required=True, help="folder in which results are kept")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the figure")
    parser.add_argument("--arena", nargs="*", default=list(SEEDS), choices=list(SEEDS))
    parser.add_argument("--seeds", type=int, help="how many, instead of each arena's own number")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--test-rows", type=int)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="where rows pass the backbone")
    parser.add_argument("--settings", nargs="*", default=[], choices=list(SEEDS), help="arenas with more settings")
    arguments = parser.parse_args()

    def run(name: str, settings: bool, seeds: int) -> list[dict[str, Any]]:
        place = arena(name, arguments.data, arguments.rows, arguments.test_rows, arguments.device)
        return summary(results(place, entries(name, settings), range(seeds), arguments.out))

    if arguments.settings:
        draw({name: run(name, True, 1) for name in arguments.settings}, "settings", arguments.docs)
    found = {name: run(name, False, arguments.seeds or SEEDS[name]) for name in arguments.arena}
    file = arguments.docs / "frontier.json"
    known = {**(json.loads(file.read_text()) if file.exists() else {}), **found}
    draw({name: known[name] for name in SEEDS if name in known}, "frontier", arguments.docs)


def summary(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over seeds by entry, and points over retrain and ridge only seed by seed."""
    by_entry: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for result in found:
        by_entry[result["entry"]].append(result)
    right = {(one["entry"], one["seed"]): one["accuracy"]["accuracy"] for one in found}

    def points_over(other: Entry, group: list[dict[str, Any]]) -> dict[str, float | int]:
        seed_by_seed = [one["accuracy"]["accuracy"] - right[other.name, one["seed"]] for one in group]
        return interval([100 * points for points in seed_by_seed])

    return [
        {
            **{
                key: group[0][key] for key in ("entry", "method", "settings", "rows", "test_rows", "epochs", "image_px")
            },
            "seeds": len(group),
            "accuracy": {name: interval([one["accuracy"][name] for one in group]) for name in group[0]["accuracy"]},
            "unexplained": {
                # Results from before heads were compared have none.
                name: interval([one["unexplained"][name] for one in group])
                for name in group[0].get("unexplained", {})
            },
            "points_over_retrain": points_over(RETRAIN, group),
            "points_over_ridge": points_over(RIDGE, group),
            "expected_row_passes": interval([one["expected_row_passes"] for one in group]),
            "row_passes_of_requests": {
                name: interval([one["row_passes_of_requests"][name] for one in group])["mean"]
                for name in group[0]["row_passes_of_requests"]
            },
            "fit": {name: interval([one["fit"][name] for one in group])["mean"] for name in group[0]["fit"]},
            # Retrain's deletion is a fit.
            "one_deletion": group[0]["deletion"][0] if group[0]["deletion"] else group[0]["fit"],
            "serving_of_an_image": {
                name: interval([one["serving"][name] / one["serving"]["images"] for one in group])["mean"]
                for name in ("forward_row_passes", "flops", "wall_s")
            },
            "clusters": group[0]["clusters"],
            "dates": sorted({one["date"] for one in group}),
            "cores": group[0]["cores"],
            # Results from before there was the field are of the CPU.
            "gpu": group[0].get("gpu", ""),
            "load": max(one["load"] for one in group),
        }
        for group in by_entry.values()
    ]


def draw(found: dict[str, list[dict[str, Any]]], figure: str, docs: Path) -> None:
    """Accuracy against expected cost; ridge only, which costs no pass, as a line."""
    drawn, plots = axes(len(found), *((8.4, 5.0) if len(found) == 1 else ()))
    for plot, (name, rows) in zip(plots, found.items(), strict=True):
        for row in rows:
            value = row["accuracy"]["accuracy"]
            colour = COLOURS[row["method"]]
            if row["method"] == "ridge":
                style = "--" if row["settings"]["depths"] == "several" else ":"
                plain = ", no public prompt" if row["settings"].get("public_epochs") == 0 else ""
                style = "-." if plain and style == "--" else style
                said = f"ridge only, {row['settings']['depths']}{plain}"
                plot.axhline(value["mean"], color=colour, linestyle=style, label=said)
                continue
            plot.errorbar(
                row["expected_row_passes"]["mean"],
                value["mean"],
                value["half_interval"] or None,
                color=colour,
                marker=MARKERS[row["method"]],
                linestyle="",
                capsize=2,
            )
            plot.annotate(
                label(row),
                (row["expected_row_passes"]["mean"], value["mean"]),
                OFFSETS.get(row["method"], (5, 4)),
                textcoords="offset points",
                fontsize=6,
                horizontalalignment="right" if row["method"] in DEAREST else "left",
            )
        plot.set_xscale("log")
        plot.set_title(f"{name}, {rows[0]['rows']} rows, {rows[0]['seeds']} seed(s)")
        plot.set_xlabel("expected row-passes of a deletion")
        plot.set_ylabel("accuracy")
        plot.margins(x=0.12)
        plot.legend(fontsize=6, loc="lower left")
    save(drawn, found, figure, docs)


def label(row: dict[str, Any]) -> str:
    """A method and its settings, short."""
    settings = row["settings"]
    epochs = f"{settings['epochs']} epochs" if "epochs" in settings else ""
    said = {
        "retrain": lambda: "tuned as ours" if "tuned" in settings else epochs,
        "sisa": lambda: f"S = {settings['shards']}",
        "sampled": lambda: f"{settings['tuned_rows']} rows",
        "published": lambda: f"{settings['clusters']} clusters",
        "ours": lambda: " ".join(
            [
                *([f"≤ {settings['bound']}"] if "bound" in settings else []),
                *([epochs] if epochs else []),
                *(["pad"] if settings.get("kind") == "pad" else []),
                *([f"at block {settings['depth']}"] if "depth" in settings else []),
                *(["no public prompt"] if settings.keys() == {"public_epochs"} else []),
            ]
        ),
    }
    return f"{NAMES[row['method']]} {said[row['method']]() if row['method'] in said else ''}".strip()


if __name__ == "__main__":
    main()
