"""Tables of sizes say what the results say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.lib.size_results import read_results
from benchmarks.lib.size_tables import tables


def spread(median: float, p99: float | None = None) -> dict[str, Any]:
    return {"median": median, "p99": p99, "max": 2 * median}


def start(resident: int) -> dict[str, Any]:
    return {"accepted_s": 1.5, "erased_s": 100.0, "resident_bytes": resident, "most_resident_bytes": 2 * resident}


def cells(table: str, begin: str) -> list[str]:
    (line,) = (line for line in table.splitlines() if line.startswith(f"| {begin}"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


@pytest.fixture
def results(tmp_path: Path) -> dict[str, Any]:
    def keep(store: str, name: str, **figures: Any) -> None:
        (tmp_path / store).mkdir(exist_ok=True)
        (tmp_path / store / f"{name}.json").write_text(json.dumps(figures))

    keep("1000", "start", **start(300_000_000))
    keep("10000000", "start", **start(300_000_000 + 9_999_000 * 90))
    keep("10000", "one", erased_s=spread(0.1, 0.4), accepted_s=spread(0.01, 0.02), most_record_bytes={"commit": 4_000})
    keep(
        "10000000", "one", erased_s=spread(0.2, 0.7), accepted_s=spread(0.01, 0.02), most_record_bytes={"commit": 8_000}
    )
    keep("10000000", "requests", most_record_bytes={"commit": 120_000, "request": 999_999}, receipts_bytes=20_000_000)
    keep("10000000", "tenth", more_than_s=600.0)
    keep("10000000", "bulk", ids=100_000, erased_s=60.0, singles=12, single_erased_s=spread(2.0))
    keep("log", "log", **{"100": {"started_s": spread(1.0), "read": {"log": 37}}})
    return read_results(tmp_path)


def test_figures_stand_by_size(results: dict[str, Any]) -> None:
    table = tables(results)["figures"]
    assert cells(table, "rows") == ["10,000", "100,000", "1,000,000", "10,000,000"]
    assert cells(table, "one id: erased") == ["0.100 / 0.400", "", "", "0.200 / 0.700"]
    # Above the store of 1000 rows.
    assert cells(table, "memory after it")[-1] == "90"
    assert cells(table, "a tenth of the rows")[-1] == "> 600 s"
    assert cells(table, "single ids beside it")[-1] == "2.000 / 4.000 (n = 12)"


def test_targets_are_met_or_missed_or_were_not_run(results: dict[str, Any]) -> None:
    table = tables(results)["targets"]
    assert cells(table, "one id of 10 million") == ["met: 0.70 s"]
    assert cells(table, "and ≤ 1.5 times") == ["**missed**: 1.75 times"]
    assert cells(table, "the same in processor") == ["not run"]
    assert cells(table, "memory") == ["met: 90.00 bytes"]
    assert cells(table, "commit record") == ["**missed**: 120.00 KB"]
    assert cells(table, "receipts") == ["**missed**: 20.00 MB"]
    assert cells(table, "single ids beside") == ["met: 4.00 s"]
    assert cells(table, "1,000,000 ids") == ["**missed**: more than 600 s"]
    assert cells(table, "start after 10,000") == ["not run"]
    assert cells(table, "idle") == ["not run"]


def test_what_the_log_costs_stands_by_its_length(results: dict[str, Any]) -> None:
    assert cells(tables(results)["log"], "100 ") == ["1.000", "37", "0"]
