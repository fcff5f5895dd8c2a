"""Plots as self-contained SVG documents."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from lmeraser.extras import needs_extra

with needs_extra("audit"):
    import matplotlib as mpl
    from matplotlib.figure import Figure

_STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "lmeraser", "font.size": 9, "font.family": "sans-serif"}
_COLOURS = {"before": "#b3261e", "erased": "#e08a00", "completed": "#1a6b3c", "control": "#3a4a5a"}
_LINES = {"before": "-", "erased": "-", "completed": "-", "control": ":"}


def roc(curves: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> str:
    """ROC curves on logarithmic axes, to show low false positive rates."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(4.6, 3.6), layout="constrained")
        axes = figure.add_subplot()
        for name, (false, true) in curves.items():
            axes.plot(false, true, _LINES[name], color=_COLOURS[name], label=name, linewidth=1.6)
        line = np.array([1e-4, 1.0])
        axes.plot(line, line, "--", color="#999999", linewidth=0.8, label="chance")
        axes.set(xscale="log", yscale="log", xlim=(1e-3, 1), ylim=(1e-3, 1))
        axes.set(xlabel="false positive rate", ylabel="true positive rate")
        axes.legend(frameon=False)
        return _svg(figure)


def histograms(scores: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> str:
    """The attack's scores of members and of others, at each stage."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9.2, 2.4), layout="constrained")
        for index, (name, (scores_K, member_K)) in enumerate(scores.items(), start=1):
            axes = figure.add_subplot(1, len(scores), index)
            low, high = (float(np.quantile(scores_K, share)) for share in (0.01, 0.99))
            edges = np.linspace(low, high if high > low else low + 1, 31)
            for chosen_K, label, colour in ((member_K, "member", "#b3261e"), (~member_K, "not a member", "#3a4a5a")):
                axes.hist(scores_K[chosen_K], edges.tolist(), density=True, histtype="step", color=colour, label=label)
            axes.set(title=name, xlabel="log likelihood ratio", yticks=[])
        figure.axes[0].legend(frameon=False, fontsize=7)
        return _svg(figure)


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
