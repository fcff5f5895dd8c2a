"""The markdown table of what a deletion costs as rows grow, by method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.lib.frontier_tables import markdown

# Column, and key of the result.
_COSTS = {
    "**ours**": "ours",
    "worst": "ours at worst",
    "sample": "sampled",
    "SISA, S = 5": "sisa 5",
    "published": "published",
    "retrain": "retrain",
}
_RATIOS = {"retrain over ours": "retrain", "SISA over ours": "sisa 5"}


def tables(growth: Mapping[str, Any]) -> dict[str, str]:
    """The one table."""
    head = ("rows", "clusters", *_COSTS, *_RATIOS)
    return {"row-passes": markdown(head, map(_line, growth["points"]))}


def _line(point: Mapping[str, float]) -> list[str]:
    costs = [point["rows"], point["clusters"], *(point[key] for key in _COSTS.values())]
    ratios = [point[key] / point["ours"] for key in _RATIOS.values()]
    return [*(f"{cost:,.0f}" for cost in costs), *(f"{ratio:,.{1 if ratio < 10 else 0}f}" for ratio in ratios)]
