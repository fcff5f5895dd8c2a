"""Markdown tables of what a rebuild costs, by data set."""

from __future__ import annotations

from benchmarks.lib.frontier_tables import markdown

_HEAD = ("what changes", "row-passes", "of a fresh ingest", "processor (s)")


def tables(costs: dict[str, dict[str, dict[str, float]]]) -> dict[str, str]:
    """The tables by data set and rows."""
    return {
        name: markdown(
            _HEAD,
            (
                [what, f"{cost['row_passes']:,.0f}", f"{cost['share_of_fresh']:.0%}", f"{cost['processor_s']:.1f}"]
                for what, cost in by_change.items()
            ),
        )
        for name, by_change in costs.items()
    }
