"""``lmeraser residue``: its exit codes, and its report of doubtful matches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import CommandResult, Run
from small_system import System, samples

Scan = Callable[..., CommandResult]


@pytest.fixture
def scan(lmeraser: Run, system_of: Callable[..., System], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scan:
    """Scans a store of rows "7", "8" and named ones, "7" and "photo-3" erased, for the ids of a text."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "none"))
    system = system_of("minute", 0)
    names = {7: "7", 8: "8"}
    system.ingest(
        [replace(row, sample_id=names.get(number, f"photo-{number}")) for number, row in enumerate(samples(0, 24))]
    )
    system.delete("7", "photo-3")
    (tmp_path / "logs").mkdir()

    def run(ids: str, *options: object) -> CommandResult:
        (tmp_path / "ids").write_text(ids)
        at = ("--store", system.store.uri, "--keys", system.keys, "--folder", tmp_path / "logs")
        return lmeraser("residue", *at, "--ids-file", tmp_path / "ids", *options)

    return run


def test_an_erased_id_is_clean_and_an_id_in_the_store_is_not(scan: Scan, tmp_path: Path) -> None:
    ran = scan("photo-3\n7\n")
    assert (ran.code, ran.err) == (0, "")
    assert "encrypted, or compressed by" in ran.out
    ran = scan("photo-4\n", "--json")
    assert (ran.code, ran.json["clean"]) == (1, False)
    (tmp_path / "logs" / "photo-3.log").write_text("nothing")
    assert "is called or points to the id in place 1 of the list" in scan("photo-3\n").out


def test_an_id_that_was_never_known_fails_unless_that_is_allowed(scan: Scan) -> None:
    ran = scan("photo-3\nPhoto-4\n", "--json")
    assert (ran.code, ran.json["clean"], ran.json["never_known"]) == (1, False, [2])
    assert "the store never knew 1 of the 2 ids" in ran.err and "differs from 'Photo-4'" in ran.err
    ran = scan("photo-3\nPhoto-4\n", "--json", "--allow-unknown")
    assert (ran.code, ran.json["clean"]) == (0, False)


def test_a_number_in_a_log_is_shown_and_is_not_a_failure(scan: Scan, tmp_path: Path) -> None:
    (tmp_path / "logs" / "raylet.out").write_text("worker 7 started")
    ran = scan("7\n", "--json")
    assert (ran.code, ran.json["clean"], ran.json["findings"]) == (0, True, [])
    assert ran.json["doubtful"] == [
        {"file": str(tmp_path / "logs" / "raylet.out"), "what": "may hold the id in place 1 of the list"}
    ]
    assert scan("8\n").code == 1
