"""Pages have the tables that follow from the JSON files, and a table says what its values say."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from benchmarks.lib import (
    after_deletions_table,
    bucket_table,
    growth_table,
    literature_table,
    rebuild_tables,
    throughput_table,
)
from benchmarks.lib.plotting import DOCS
from benchmarks.write_tables import PAGES, known_tables, with_tables

KNOWN = known_tables(DOCS)


def markers(page: Path) -> list[str]:
    return re.findall(r"<!-- table: (.+?) -->", page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS.parent).as_posix())
def test_a_page_has_the_tables_of_the_json(page: Path) -> None:
    text = page.read_text()
    assert text.count("<!-- end of table -->") == len(markers(page)) == text.count("<!-- table")
    assert with_tables(text, KNOWN) == text


def test_every_json_file_is_shown_on_a_page() -> None:
    shown = {name.partition(", ")[0] for page in PAGES for name in markers(page)}
    assert shown == {name.partition(", ")[0] for name in KNOWN}


def test_another_figure_in_the_json_makes_another_table(tmp_path: Path) -> None:
    for file in DOCS.glob("*.json"):
        shutil.copy(file, tmp_path)
    assert known_tables(tmp_path) == KNOWN
    growth = json.loads((tmp_path / "growth.json").read_text())
    growth["points"][-1]["ours"] += 100
    (tmp_path / "growth.json").write_text(json.dumps(growth))
    changed = known_tables(tmp_path)
    assert {name for name, table in KNOWN.items() if changed[name] != table} == {"growth, row-passes", "results"}
    page = DOCS / "growth.md"
    assert with_tables(page.read_text(), changed) != page.read_text()


def test_a_page_that_names_no_known_table_is_refused() -> None:
    with pytest.raises(KeyError, match="frontier, no such table"):
        with_tables("<!-- table: frontier, no such table -->\n<!-- end of table -->\n", KNOWN)


def cells(table: str, begin: str) -> list[str]:
    (line,) = (line for line in table.splitlines() if line.startswith(f"| {begin}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_growth_has_the_costs_and_how_many_times_ours_the_others_cost() -> None:
    costs = {"ours": 500.0, "ours at worst": 3_000.4, "sampled": 480.0, "published": 2_000.0}
    point = {"rows": 2_000, "clusters": 3, **costs, "retrain": 4_000.0, "sisa 5": 5_500.0}
    table = growth_table.tables({"points": [point]})["row-passes"]
    assert cells(table, "2,000") == ["2,000", "3", "500", "3,000", "480", "5,500", "2,000", "4,000", "8.0", "11"]


def test_earlier_results_after_deletions_are_marked() -> None:
    # Student's t for one degree of freedom is 12.706; the standard error is .005.
    ours, sisa = {"values": [0.90, 0.91]}, {"values": [0.80], "earlier": "2030-01-01"}
    table = after_deletions_table.tables({"digits": {"0": {"sisa": sisa, "ours": ours}}})["digits"]
    assert cells(table, "rows deleted")[1:] == ["**ours**", "SISA, S = 5 †"]
    assert cells(table, "0 %")[1:] == [".905 ± .064", ".800"]


def test_throughput_leaves_open_what_was_not_run() -> None:
    ratios = {"token at 1, 8 clusters": 0.9234, "token at 1, 64 clusters, as published": 0.5}
    figures: dict[str, Any] = {"over_plain_forward": ratios, "targets": {"token at 1": 0.85, "one cluster": 0.9}}
    table = throughput_table.tables(figures)["over plain forward"]
    assert len(table.splitlines()) == 3
    assert cells(table, "`token`") == ["`token` at 1", ".85", ".923", "", "", "", "", ".500"]


def test_a_rebuild_has_its_share_of_a_fresh_ingest() -> None:
    cost = {"row_passes": 1_234, "share_of_fresh": 0.456, "processor_s": 7.89}
    table = rebuild_tables.tables({"digits": {"a label": cost}})["digits"]
    assert cells(table, "a label") == ["a label", "1,234", "46%", "7.9"]


def test_requests_of_one_price_are_in_one_column_and_those_who_make_none_are_left_out() -> None:
    waiting: dict[str, Any] = {"what": "waiting", "requests": 0, "dollars for a million": 0.0}
    erasing = {"what": "accepted to erased", "deleted": "1 row", "requests": 9, "GET": 2, "HEAD": 3, "PUT": 4}
    table = bucket_table.tables([waiting, {**erasing, "dollars for a million": 22.0}])["requests"]
    assert "waiting" not in table
    assert cells(table, "1 row") == ["1 row: accepted to erased", "5", "", "4", "", "22"]


def test_methods_of_other_papers_have_a_source_and_no_figure_that_it_lacks() -> None:
    entries = json.loads((DOCS / "literature.json").read_text())
    assert len(entries) >= 10
    assert all(entry["source"] and entry["link"].startswith("https://") for entry in entries)
    entry = {**entries[0], "method": "another", "accuracy": None, "worst": "a year"}
    made = literature_table.table({"gtsrb 2000": []}, {}, [entry])
    accuracy, expected, worst = cells(made, "another")[1:4]
    assert (accuracy, expected, worst) == ("not given", entries[0]["expected"], "a year")


def test_methods_that_were_measured_have_their_costliest_deletion() -> None:
    made = KNOWN["methods"]
    # Of 2000 rows: 1,999 passed 9 times; with SISA 6 slices' worth of rows, 15 slices in all, in 2 epochs, and a shard.
    assert cells(made, "retrain, one prompt |")[3] == "17,991"
    assert cells(made, "SISA, 5 shards")[3] == "3,600"
