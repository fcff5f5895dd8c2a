"""Makes the tables of docs/benchmarks.md and of the pages below docs/benchmarks from the JSON files there.

A table stands in a page between ``<!-- table: FILE, NAME -->`` and ``<!-- end of table -->``; everything between is
replaced. A test compares the pages with the JSON.

    python -m benchmarks.write_tables
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.lib import (
    after_deletions_table,
    bucket_table,
    frontier_tables,
    growth_table,
    literature_table,
    rebuild_tables,
    results_table,
    size_tables,
    throughput_table,
)
from benchmarks.lib.plotting import DOCS

PAGES = sorted([DOCS.with_suffix(".md"), *DOCS.rglob("*.md")])
# By the JSON file, its tables by name.
_TABLES: dict[str, Callable[[Any], dict[str, str]]] = {
    "frontier": frontier_tables.tables,
    "growth": growth_table.tables,
    "after_deletions": after_deletions_table.tables,
    "rebuild": rebuild_tables.tables,
    "size": size_tables.tables_by_time,
    "throughput": throughput_table.tables,
    "bucket": bucket_table.tables,
}
_TABLE = re.compile(r"<!-- table: (.+?) -->\n(.*?)<!-- end of table -->\n", re.DOTALL)


def main() -> None:
    """Rewrite the pages."""
    known = known_tables(DOCS)
    for page in PAGES:
        page.write_text(with_tables(page.read_text(), known))


def known_tables(folder: Path) -> dict[str, str]:
    """Every table that the JSON files in a folder have the figures of, by "FILE, NAME"."""
    numbers = {file: json.loads((folder / f"{file}.json").read_text()) for file in _TABLES}
    made = {
        f"{file}, {name}": table for file, tables in _TABLES.items() for name, table in tables(numbers[file]).items()
    }
    frontier, size = numbers["frontier"], numbers["size"]["now"]
    literature = json.loads((folder / "literature.json").read_text())
    return made | {
        "results": results_table.table(frontier, numbers["growth"], size, numbers["throughput"]),
        "methods": literature_table.table(frontier, size, literature),
    }


def with_tables(page: str, known: dict[str, str]) -> str:
    """The page with its tables made anew. Raises KeyError where it names a table that there is not."""
    return _TABLE.sub(lambda match: f"<!-- table: {match[1]} -->\n\n{known[match[1]]}\n<!-- end of table -->\n", page)


if __name__ == "__main__":
    main()
