"""``lmeraser audit``: its files, its exit codes, and the arguments that it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Run
from small_system import System

SystemOf = Callable[..., System]


@pytest.fixture
def audit(system_of: SystemOf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[System, list[object]]:
    """A system with two deletions, and the arguments that audit both."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "none"))
    system = system_of("minute", 24)
    system.delete("s3")
    system.delete("s4")
    ids = [deletion.id for deletion in system.coordinator().recent_deletions()]
    store = ["--store", system.store.uri, "--keys", system.keys]
    return system, ["audit", *store, "--requests", *ids, "--shadows", 0, "--out", tmp_path / "out"]


@pytest.mark.slow
def test_both_reports_are_written_and_the_command_fails_if_a_section_does(
    audit: tuple[System, list[object]], lmeraser: Run, tmp_path: Path
) -> None:
    system, command = audit
    (tmp_path / "ids.txt").write_text("s3\ns4\n")
    ran = lmeraser(*command, "--ids-file", tmp_path / "ids.txt", "--processes", 1, "--json")
    assert ran.code == 0, ran.err
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report == ran.json and report["verdict"] == "incomplete" and len(report["requests"]) == 2
    assert {section["name"] for section in report["sections"] if section["status"] == "not done"} == {"membership"}
    assert (tmp_path / "out" / "report.html").read_text().startswith("<!doctype html>")
    shutil.copy(next(Path(system.store.uri).glob("heads/*")), Path(system.store.uri) / "heads" / "old.safetensors")
    ran = lmeraser(*command, "--ids-file", tmp_path / "ids.txt", "--processes", 1)
    assert ran.code == 1 and "failed" in ran.out and "heads/old.safetensors" in ran.out


def test_unusable_arguments_are_refused(audit: tuple[System, list[object]], lmeraser: Run, tmp_path: Path) -> None:
    command = audit[1]
    lmeraser(*command, "--shadows", 3).failed(2, "--shadows is 3")
    lmeraser(*command, "unheard-of").failed(2, "'unheard-of'")
    lmeraser(*command, "--public-key", tmp_path / "none.pem").failed(2, "none.pem")
    lmeraser(*command, "--with-rows").failed(2, "--config")
    (tmp_path / "ids.txt").write_text("s7\n")
    lmeraser(*command, "--ids-file", tmp_path / "ids.txt").failed(2, "'s7'")
