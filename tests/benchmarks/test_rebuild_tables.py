"""The page has the tables of what a rebuild costs as they are in the JSON."""

from __future__ import annotations

from benchmarks.write_rebuild_tables import COSTS, PAGE, with_tables


def test_the_page_has_the_tables_of_the_json() -> None:
    page = PAGE.read_text()
    assert page.count("<!-- rebuild: ") >= 1
    assert with_tables(page, COSTS) == page
