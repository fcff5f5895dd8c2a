"""The markdown table of requests to a bucket and what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.lib.frontier_tables import markdown

# Column, and the kinds of requests that it adds up; kinds in one column cost the same.
_COLUMNS = {"GET, HEAD": ("GET", "HEAD"), "LIST": ("LIST",), "PUT, POST": ("PUT", "POST"), "DELETE": ("DELETE",)}


def tables(figures: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The one table, of everything that makes requests."""
    head = ("", *_COLUMNS, "dollars for a million")
    return {"requests": markdown(head, (_line(figure) for figure in figures if figure["requests"]))}


def _line(figure: Mapping[str, Any]) -> list[str]:
    what = f"{figure['deleted']}: {figure['what']}" if "deleted" in figure else figure["what"]
    counts = (sum(figure.get(kind, 0) for kind in kinds) for kinds in _COLUMNS.values())
    return [what, *(f"{count:,.0f}" if count else "" for count in counts), f"{figure['dollars for a million']:,.0f}"]
