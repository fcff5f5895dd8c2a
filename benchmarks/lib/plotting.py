"""One look for all figures: a colour for each method, and SVG files whose bytes depend on the numbers alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from benchmarks.lib.settings import ROOT

DOCS = ROOT / "docs" / "benchmarks"
# Colours that people who are colour-blind tell apart (Okabe and Ito, https://jfly.uni-koeln.de/color/).
COLOURS = {
    "retrain": "#000000",
    "sisa": "#E69F00",
    "published": "#D55E00",
    "ridge": "#009E73",
    "sampled": "#CC79A7",
    "ours": "#0072B2",
}
MARKERS = {"retrain": "s", "sisa": "^", "published": "v", "ridge": "D", "sampled": "P", "ours": "o"}
NAMES = {
    "retrain": "retrain",
    "sisa": "SISA",
    "published": "LMEraser as published",
    "ridge": "shared head only",
    "sampled": "one prompt, tuned as ours on a sample",
    "ours": "ours",
}


def set_look(font_size: float) -> None:
    """Set how the next figure looks."""
    plt.rcParams.update({"svg.hashsalt": "lmeraser", "font.size": font_size, "axes.grid": True, "grid.alpha": 0.3})


def plots_in_a_row(columns: int, width: float = 4.2, height: float = 3.6) -> tuple[Figure, list[Axes]]:
    """A figure with some plots next to each other; width and height of each in inches."""
    set_look(12)
    figure, rows = plt.subplots(1, columns, figsize=(width * columns, height), squeeze=False, layout="constrained")
    return figure, list(rows[0])


def one_legend(figure: Figure, plots: list[Axes]) -> None:
    """A legend for all plots next to them, where it hides nothing, with each name once."""
    entries = {name: handle for plot in plots for handle, name in zip(*plot.get_legend_handles_labels(), strict=True)}
    figure.legend(list(entries.values()), list(entries), loc="outside right center", frameon=False)


def save(figure: Figure, numbers: dict[str, Any], name: str, folder: Path = DOCS) -> None:
    """Write the figure as SVG and its numbers as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)
    (folder / f"{name}.json").write_text(json.dumps(numbers, indent=1) + "\n")


def interval(values: list[float]) -> dict[str, Any]:
    """The values, their mean, and half of its 95 % interval by Student's t where there are at least two."""
    half = 0.0
    if len(values) > 1:
        half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
    return {"mean": float(np.mean(values)), "half_interval": half, "n": len(values), "values": values}
