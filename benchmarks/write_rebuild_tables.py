"""Makes the tables of docs/benchmarks.md from ``rebuild.json`` and ``rebuild-service.json``. A test compares them.

A table stands in the page between ``<!-- rebuild: NAME -->`` and ``<!-- end of rebuild -->``.

    python -m benchmarks.write_rebuild_tables
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from benchmarks.lib.frontier_tables import markdown
from benchmarks.lib.plotting import DOCS
from benchmarks.lib.settings import ROOT

PAGE = ROOT / "docs" / "benchmarks.md"
COSTS, SERVICE = DOCS / "rebuild.json", DOCS / "rebuild-service.json"
_TABLE = re.compile(r"<!-- rebuild: (.+?) -->\n(.*?)<!-- end of rebuild -->\n", re.DOTALL)
_PHASES = {"quiet": "quiet", "during_a_rebuild": "during a rebuild"}


def main() -> None:
    """Rewrite the page."""
    PAGE.write_text(with_tables(PAGE.read_text(), COSTS, SERVICE))


def with_tables(page: str, costs: Path, service: Path) -> str:
    """The page with its tables made from the JSON. Raises KeyError where the JSON has no such table."""
    known = {name: _costs(rows) for name, rows in json.loads(costs.read_text()).items()}
    if service.exists():
        known["service"] = _service(json.loads(service.read_text()))
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


def _service(found: dict[str, Any]) -> str:
    head = ["", "prediction, median (s)", "p99 (s)", "most (s)", "accepted to erased, median (s)", "most (s)"]
    return markdown(head, ([shown, *_phase(found[name])] for name, shown in _PHASES.items()))


def _phase(figures: dict[str, dict[str, float | None]]) -> list[str]:
    predicted, erased = figures["prediction_s"], figures["erased_s"]
    values = (predicted["median"], predicted["p99"], predicted["max"], erased["median"], erased["max"])
    return ["" if value is None else f"{value:.3f}" for value in values]


if __name__ == "__main__":
    main()
