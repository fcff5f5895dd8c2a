"""Markdown tables of accuracy and the cost of a deletion, by setting, from the values of every seed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from benchmarks.lib.plotting import interval
from benchmarks.lib.runs import compared, label
from benchmarks.lib.summary import Summary, cost_of_retrain, cost_of_sisa, points_over_shared
from benchmarks.lib.targets import targets

_COMPARED = [run.name for run in compared()]
_COMPARISON = (
    "",
    "seeds",
    "accuracy",
    "points over the shared head",
    "expected row-passes",
    "worst",
    "complete without a pass",
    "retrain over it",
    "SISA over it",
)
_SWEEP = (
    "prompt",
    "at most rows",
    "clusters",
    "coreset",
    "epochs",
    "accuracy",
    "pooled head alone",
    "blend (λ = .75)",
    "expected row-passes",
    "worst",
    "complete without a pass",
)


def tables(frontier: dict[str, list[Summary]]) -> dict[str, str]:
    """The tables by name: of each setting, "comparison" and "sweep", and the targets."""
    made = {"targets": targets(frontier)}
    for setting, rows in frontier.items():
        made[f"comparison, {setting}"] = _comparison(rows)
        made[f"sweep, {setting}"] = _sweep(rows)
    return made


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def share(values: Sequence[float]) -> str:
    """A mean with three decimals, and half of its interval where there are at least two values."""
    mean = interval(list(values))
    text = f"{mean['mean']:.3f}".removeprefix("0")
    return f"{text} ± {mean['half_interval']:.3f}".replace("± 0", "± ") if mean["n"] > 1 else text


def points(values: Sequence[float]) -> str:
    """A mean difference in points of accuracy, with half of its interval."""
    if not values:
        return ""
    mean = interval(list(values))
    text = f"{mean['mean']:.1f}".replace("-0.0", "0.0")
    return f"{text} ± {mean['half_interval']:.1f}" if mean["n"] > 1 else text


def expected(row: Summary) -> float:
    """Expected row-passes of deleting one row, the mean over the seeds."""
    return float(np.mean(row["row_passes_of_one_row"]["expected"]))


def _comparison(rows: list[Summary]) -> str:
    compared = [row for row in rows if row["entry"] in _COMPARED]
    # Accuracies of the two sets of results do not compare, and neither do those of different seeds.
    compared.sort(key=lambda row: -float(np.mean(points_over_shared(row, rows) or [0])))
    return markdown(_COMPARISON, (_compared_row(row, rows) for row in compared))


def _compared_row(row: Summary, rows: list[Summary]) -> list[str]:
    cost = expected(row)
    name = label(row["method"], row["settings"]) + (" †" if "earlier" in row else "")
    return [
        f"**{name}**" if row["entry"] == _COMPARED[0] else name,
        str(len(row["seeds"])),
        share(row["accuracy"]["accuracy"]),
        points(points_over_shared(row, rows)),
        f"{cost:,.0f}",
        *_worst_and_free(row),
        *(_times(other(row), cost) for other in (cost_of_retrain, cost_of_sisa)),
    ]


def _times(other: float, cost: float) -> str:
    if cost == 0:
        return ""
    return f"{other / cost:.1f}" if other < 10 * cost else f"{other / cost:,.0f}"


def _worst_and_free(row: Summary) -> tuple[str, str]:
    costs = row["row_passes_of_one_row"]
    # Results from before they were worked out have neither.
    worst = f"{max(costs['worst']):,.0f}" if "worst" in costs else ""
    free = f"{100 * np.mean(costs['free']):.1f} %" if "free" in costs else ""
    return worst, free


def _sweep(rows: list[Summary]) -> str:
    """Ours with every option at the first seed, by kind of prompt, bound, coreset and epochs."""
    ours = [row for row in rows if "coreset_rows" in row["settings"] and "earlier" not in row and 0 in row["seeds"]]
    ours.sort(key=lambda row: (row["settings"].get("kind", "token") != "token", *_order(row)))
    return markdown(_SWEEP, map(_swept_row, ours))


def _order(row: Summary) -> tuple[int, int, int]:
    options = row["settings"]
    return -options["max_cluster_rows"], options["coreset_rows"], -options["epochs"]


def _swept_row(row: Summary) -> list[str]:
    options, first = row["settings"], row["seeds"].index(0)
    accuracy = {name: f"{values[first]:.3f}".removeprefix("0") for name, values in row["accuracy"].items()}
    costs = {name: [values[first]] for name, values in row["row_passes_of_one_row"].items()}
    kind = options.get("kind", "token")
    return [
        f"`{kind}`" + (f" of {options['pad_px']} px" if kind == "pad" else ""),
        f"{options['max_cluster_rows']:,}",
        str(len(row["clusters"][first])),
        f"{options['coreset_rows']}",
        f"{options['epochs']}",
        *(accuracy[name] for name in ("accuracy", "pooled 1.0", "pooled 0.75")),
        f"{costs['expected'][0]:,.0f}",
        *_worst_and_free({"row_passes_of_one_row": costs}),
    ]
