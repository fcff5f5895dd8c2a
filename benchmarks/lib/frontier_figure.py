"""Accuracy against the expected cost of a deletion, drawn for every setting, and for the README for one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from benchmarks.lib.plotting import DOCS, interval, set_look
from benchmarks.lib.run import Run
from benchmarks.lib.runs import (
    LARGER_CORESET,
    OURS,
    PREVIOUS,
    PUBLISHED,
    RETRAIN,
    RETRAIN_AS_OURS,
    SAMPLED,
    SHARED_HEAD_ONLY,
    SISA,
)
from benchmarks.lib.summary import Summary, of_run

# Colours that people who are colour-blind tell apart (Okabe and Ito, https://jfly.uni-koeln.de/color/), and a marker
# for each, so that they can be told apart without colours too.
_STYLES: dict[Run, tuple[str, str, str]] = {
    OURS: ("ours, coreset of 300", "#0072B2", "o"),
    LARGER_CORESET: ("ours, coreset of 600", "#56B4E9", "o"),
    PREVIOUS: ("ours before coresets", "#56B4E9", "X"),
    SAMPLED: ("one prompt on a sample of 300", "#CC79A7", "P"),
    RETRAIN_AS_OURS: ("retrain, tuned as ours", "#000000", "D"),
    RETRAIN: ("retrain", "#000000", "s"),
    SISA: ("SISA", "#E69F00", "^"),
    PUBLISHED: ("LMEraser as published", "#D55E00", "v"),
}
_SHARED = ("linear head alone: no pass", "#009E73")
_HEADLINE = "gtsrb 2000"


def draw(by_setting: Mapping[str, Sequence[Summary]], docs: Path = DOCS) -> None:
    """Write ``frontier.svg`` with a plot for each setting, and ``headline.svg`` with that of 2000 traffic signs."""
    set_look(12)
    columns = min(3, len(by_setting) + 1)
    rows = -(-(len(by_setting) + 1) // columns)
    figure, grid = plt.subplots(rows, columns, figsize=(4.2 * columns, 3.6 * rows), squeeze=False, layout="constrained")
    plots = list(grid.flat)
    for plot, (setting, methods) in zip(plots, by_setting.items(), strict=False):
        _draw(plot, setting, list(methods))
    for plot in plots[len(by_setting) :]:
        plot.set_axis_off()
    plots[len(by_setting)].legend(*_entries(plots[: len(by_setting)]), loc="center", frameon=False)
    _write(figure, docs / "frontier.svg")
    if _HEADLINE in by_setting:
        figure, plot = plt.subplots(figsize=(9.0, 3.8), layout="constrained")
        _draw(plot, _HEADLINE, list(by_setting[_HEADLINE]))
        plot.set_title("2000 traffic signs, DeiT-Tiny at 96 px")
        figure.legend(*_entries([plot]), loc="outside right center", frameon=False)
        _write(figure, docs / "headline.svg")


def _draw(plot: Axes, setting: str, methods: list[Summary]) -> None:
    shared = of_run(SHARED_HEAD_ONLY, methods)
    if shared is not None:
        plot.axhline(float(np.mean(shared["accuracy"]["accuracy"])), color=_SHARED[1], linestyle="--", label=_SHARED[0])
    for run, (name, colour, marker) in _STYLES.items():
        row = of_run(run, methods)
        if row is None:
            continue
        accuracy = interval(row["accuracy"]["accuracy"])
        cost = float(np.mean(row["row_passes_of_one_row"]["expected"]))
        spread = accuracy["half_interval"] or None
        plot.errorbar(cost, accuracy["mean"], spread, color=colour, marker=marker, ms=8, ls="", capsize=3, label=name)
    plot.set_xscale("log")
    plot.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    # Their labels would overlap.
    plot.xaxis.set_minor_formatter(NullFormatter())
    plot.set_title(f"{setting} rows")
    plot.set_xlabel("expected row-passes of a deletion")
    plot.set_ylabel("accuracy")


def _entries(plots: Sequence[Axes]) -> tuple[list[Artist], list[str]]:
    """Each name of a legend once, in the order of the styles."""
    by_name: dict[str, Artist] = {}
    for plot in plots:
        for handle, name in zip(*plot.get_legend_handles_labels(), strict=True):
            by_name.setdefault(name, handle)
    order = [name for name in (*(style[0] for style in _STYLES.values()), _SHARED[0]) if name in by_name]
    return [by_name[name] for name in order], order


def _write(figure: Figure, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
