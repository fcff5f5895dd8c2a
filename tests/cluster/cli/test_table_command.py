"""``lmeraser deletions from-table``: on a store and over HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_line import Run
from command_requests import answer_in_process
from direct_service import Service
from live_service import live
from small_system import System

SystemOf = Callable[..., System]


@pytest.fixture
def system(system_of: SystemOf, monkeypatch: pytest.MonkeyPatch) -> System:
    system = system_of("minute", 24)
    system.delete("s4")
    answer_in_process(system, monkeypatch)
    return system


@pytest.fixture(params=["--store", "--url"])
def at(request: pytest.FixtureRequest, system: System) -> Iterator[tuple[str, ...]]:
    if request.param == "--store":
        yield "--store", system.store.uri, "--keys", str(system.keys)
    else:
        with live(Service(system)) as url:
            yield "--url", url


def test_a_table_is_deleted_and_each_id_has_its_outcome(lmeraser: Run, at: tuple[str, ...], tmp_path: Path) -> None:
    table, outcomes = tmp_path / "gone.csv", tmp_path / "gone.jsonl"
    table.write_bytes(b"customer;why\r\ns3;x\r\n=1+1;y\r\ns4;z\r\n")
    ran = lmeraser("deletions", "from-table", table, "--column", "customer", "--outcomes", outcomes, *at, "--json")
    assert (ran.code, ran.json["ids"], ran.json["rows"], ran.json["unknown"]) == (0, 3, 1, 2)
    lines = [json.loads(line) for line in outcomes.read_text().splitlines()]
    assert [(each["id"], each["outcome"]) for each in lines] == [
        ("s3", "erased"),
        ("=1+1", "unknown"),
        ("s4", "already erased"),
    ]
    assert lines[0]["deletion"] == ran.json["deletions"][0]
    again = lmeraser("deletions", "from-table", table, "--column", "customer", "--outcomes", outcomes, *at)
    again.failed(2, "which exists: name a new file")


def test_a_malformed_table_begins_nothing(lmeraser: Run, system: System, tmp_path: Path) -> None:
    table = tmp_path / "gone.jsonl"
    table.write_text('{"id": "u7"}\n{"id": ""}\n')
    at = ("--store", system.store.uri)
    lmeraser("deletions", "from-table", table, "--subjects", *at).failed(1, "line 2 has an id that is empty")
    assert len(lmeraser("deletions", "list", *at, "--json").json["deletions"]) == 1
    table.write_text('{"id": "u7"}\n')
    assert lmeraser("deletions", "from-table", table, "--subjects", *at, "--json").json["rows"] == 1
