"""Writes the tables of docs/benchmarks.md that ``frontier.json`` has the figures of.

A table stands in the page between ``<!-- table: NAME -->`` and ``<!-- end of table -->``; everything between is
replaced. A test compares the page with the JSON.

    python -m benchmarks.write_frontier_tables
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from benchmarks.lib.frontier_tables import tables
from benchmarks.lib.plotting import DOCS
from benchmarks.lib.settings import ROOT

PAGE = ROOT / "docs" / "benchmarks.md"
_TABLE = re.compile(r"<!-- table: (.+?) -->\n(.*?)<!-- end of table -->\n", re.DOTALL)


def main() -> None:
    """Rewrite the page."""
    PAGE.write_text(with_tables(PAGE.read_text(), DOCS / "frontier.json"))


def with_tables(page: str, frontier: Path) -> str:
    """The page with its tables made from the JSON. Raises KeyError where the JSON has no such table."""
    known = tables(json.loads(frontier.read_text()))
    return _TABLE.sub(lambda match: f"<!-- table: {match[1]} -->\n\n{known[match[1]]}\n<!-- end of table -->\n", page)


if __name__ == "__main__":
    main()
