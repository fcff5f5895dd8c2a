"""``lmeraser log check`` and ``status`` on a store that has lost something, and receipts of nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Run
from small_system import System, finish

from lmeraser.deletion import DeletionRequest
from lmeraser.errors import ObjectMissingError
from lmeraser.state.commit import commits_in
from lmeraser.state.log import Log
from lmeraser.state.stored_objects import check_objects, missing_now, missing_objects

SystemOf = Callable[..., System]


@pytest.fixture
def system(system_of: SystemOf) -> System:
    system = system_of("minute", 24)
    finish(system.coordinator())
    return system


def test_a_record_dated_before_its_predecessor_is_reported(lmeraser: Run, system: System) -> None:
    file = sorted((Path(system.store.uri) / "log").iterdir())[-1]
    last = json.loads(file.read_bytes())
    file.write_text(json.dumps({**last, "at": "1999-12-31T23:59:59.000+00:00"}))
    shown = lmeraser("log", "check", "--store", system.store.uri, "--json")
    assert (shown.code, shown.json["valid"], len(shown.json["problems"])) == (1, False, 1)
    assert f"log record {last['number']} is dated 1999" in shown.err


@pytest.mark.parametrize("kind", ["rows/.*parquet", "rows/.*ids", "prompts/", "prompted/", "heads/"])
def test_a_commit_whose_objects_are_missing_is_reported(lmeraser: Run, system: System, kind: str) -> None:
    commit = system.newest()
    name = next(name for name in sorted(commit.objects()) if re.match(kind, name))
    (Path(system.store.uri) / name).unlink()
    at = ("--store", system.store.uri)
    checked = lmeraser("log", "check", *at, "--json")
    assert (checked.code, checked.json["valid"]) == (1, False)
    assert checked.json["problems"] == [f"{name}, which the newest commit names, is missing"]
    shown = lmeraser("status", *at, "--json")
    assert (shown.code, shown.json["missing_objects"]) == (0, [name])
    assert name in shown.err and name in lmeraser("status", *at).err
    with pytest.raises(ObjectMissingError, match=f"1 of the .* {name}.*lmeraser restore"):
        check_objects(system.store, commit)


def test_an_object_that_a_newer_commit_replaced_is_not_missing(system: System) -> None:
    log = Log(system.store)
    older = commits_in(log.advance())[-1]
    check_objects(system.store, older)
    system.delete("s1")
    assert missing_objects(system.store, older) != ()
    assert missing_now(system.store, log, older) == ()


def test_a_receipt_of_nothing_says_so_loudly(lmeraser: Run, system: System, tmp_path: Path) -> None:
    coordinator = system.coordinator()
    deletion = coordinator.delete(DeletionRequest(("nobody",), ("no one",))).id
    finish(coordinator)
    receipt = tmp_path / "nothing.json"
    receipt.write_text(lmeraser("receipt", "show", deletion, "--store", system.store.uri).out)
    shown = lmeraser("receipt", "verify", receipt, "--public-key", system.keys / "signing-key.pub.pem", "--json")
    assert (shown.code, shown.json["rows"], shown.json["unknown"]) == (0, 0, 2)
    assert "NOTHING WAS ERASED" in shown.err
