"""Markdown tables of accuracy after part of the rows is deleted, by data set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.lib.frontier_tables import markdown, share

_METHODS = {
    "ours": "**ours**",
    "ridge": "shared head only",
    "retrain": "retrain",
    "sampled": "sample",
    "sisa": "SISA, S = 5",
    "published": "as published",
}


def tables(by_setting: Mapping[str, Any]) -> dict[str, str]:
    """The tables by data set; a method whose results are older than the others' is marked."""
    return {setting: _table(by_share) for setting, by_share in by_setting.items()}


def _table(by_share: Mapping[str, Mapping[str, Any]]) -> str:
    methods = [method for method in _METHODS if method in by_share["0"]]
    names = [_METHODS[method] + (" †" if "earlier" in by_share["0"][method] else "") for method in methods]
    return markdown(
        ("rows deleted", *names),
        (
            [f"{percent} %", *(share(by_method[method]["values"]) for method in methods)]
            for percent, by_method in by_share.items()
        ),
    )
