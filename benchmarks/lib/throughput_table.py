"""The markdown table of answers per second, by kind of prompt and way to answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.lib.frontier_tables import markdown

# Column, and what the case is called after the kind of prompt.
_WAYS = {
    "8 clusters": "8 clusters",
    "64": "64 clusters",
    "1 cluster": "1 clusters",
    "64, λ = .75": "64 clusters, blended",
    "64, one pass per cluster": "64 clusters, one pass a cluster",
    "64, loop over images, as published": "64 clusters, as published",
}


def tables(throughput: Mapping[str, Any]) -> dict[str, str]:
    """The one table."""
    ratios = throughput["over_plain_forward"]
    rows = (
        [_kind(kind), _share(target, 2), *(_share(ratios.get(f"{kind}, {way}")) for way in _WAYS.values())]
        for kind, target in throughput["targets"].items()
        if f"{kind}, 8 clusters" in ratios
    )
    return {"over plain forward": markdown(("", "target", *_WAYS), rows)}


def _share(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}f}".removeprefix("0")


def _kind(name: str) -> str:
    kind, _, block = name.partition(" ")
    return f"`{kind}` {block}".strip()
