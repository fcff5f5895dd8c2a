"""Makes the tables of docs/benchmarks.md from ``rebuild.json``. A test compares them.

A table stands in the page between ``<!-- rebuild: NAME -->`` and ``<!-- end of rebuild -->``.

    python -m benchmarks.write_rebuild_tables
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from benchmarks.lib.frontier_tables import markdown
from benchmarks.lib.plotting import DOCS
from benchmarks.lib.settings import ROOT

PAGE = ROOT / "docs" / "benchmarks.md"
COSTS = DOCS / "rebuild.json"
_TABLE = re.compile(r"<!-- rebuild: (.+?) -->\n(.*?)<!-- end of rebuild -->\n", re.DOTALL)


def main() -> None:
    """Rewrite the page."""
    PAGE.write_text(with_tables(PAGE.read_text(), COSTS))


def with_tables(page: str, costs: Path) -> str:
    """The page with its tables made from the JSON. Raises KeyError where the JSON has no such table."""
    known = {name: _costs(rows) for name, rows in json.loads(costs.read_text()).items()}
    return _TABLE.sub(
        lambda match: f"<!-- rebuild: {match[1]} -->\n\n{known[match[1]]}\n<!-- end of rebuild -->\n", page
    )


def _costs(rows: dict[str, dict[str, float]]) -> str:
    head = ["what changes", "row-passes", "of a fresh ingest", "processor (s)"]
    return markdown(
        head,
        (
            [what, f"{cost['row_passes']:,.0f}", f"{cost['share_of_fresh']:.0%}", f"{cost['processor_s']:.1f}"]
            for what, cost in rows.items()
        ),
    )


if __name__ == "__main__":
    main()
