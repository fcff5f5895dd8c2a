"""``lmeraser delete`` and files of ids: which rows an id names, and how a deletion of unknown ids ends."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import Run
from small_system import System, finish, samples
from stored_rows import rows_of

from cluster.cli.ids_file import read_ids
from cluster.cli.store_deletions import StoreDeletions
from lmeraser.deletion import Deletion, DeletionRequest
from lmeraser.errors import ConfigError, LMEraserError
from lmeraser.paging import Page
from lmeraser.state.pipeline import Pipeline

SystemOf = Callable[..., System]
ODD = {0: "cust-000", 1: " lead", 2: "trail ", 3: 'say "hi"', 4: "two\nlines", 5: "#7", 6: "Doe, John", 7: "Zoë"}


@pytest.fixture
def system(system_of: SystemOf, monkeypatch: pytest.MonkeyPatch) -> System:
    """A store with odd ids whose coordinator is in this process: deletions need no Ray."""
    system = system_of("minute", 0, ingest_odd)

    def request(_: object, method: str, *arguments: Any) -> Deletion:
        coordinator = system.coordinator()
        answer: Deletion = getattr(coordinator, method)(*arguments)
        finish(coordinator)
        return answer

    monkeypatch.setattr(StoreDeletions, "_request", request)
    return system


def ingest_odd(system: System) -> None:
    system.ingest([replace(row, sample_id=ODD.get(number, row.sample_id)) for number, row in enumerate(samples(0, 24))])


def written(folder: Path, data: bytes) -> Path:
    (folder / "ids.txt").write_bytes(data)
    return folder / "ids.txt"


@pytest.mark.parametrize(
    ("data", "ids"),
    [
        (b"cust-000\ncust-001\n", ["cust-000", "cust-001"]),
        (b"\xef\xbb\xbfcust-000\r\ncust-001\r\n", ["cust-000", "cust-001"]),
        (b"cust-000\rcust-001", ["cust-000", "cust-001"]),
        ("\ufeffcust-000\r\nZoë\r\n".encode("utf-16-le"), ["cust-000", "Zoë"]),
        ("\ufeffcust-000\n".encode("utf-16-be"), ["cust-000"]),
        (b"one\n\xef\xbb\xbftwo\n", ["one", "two"]),
        (b" lead\ntrail \n\n   \n", [" lead", "trail "]),
        ("no\u00a0break\nline\u2028sep\n".encode(), ["no\u00a0break", "line\u2028sep"]),
        (b'"cust-004"\n"say ""hi"""\n"two\nlines"\n"#7"\n', ["cust-004", 'say "hi"', "two\nlines", "#7"]),
        (b'Doe, John\nsay "hi"\n', ["Doe, John", 'say "hi"']),
        (b"twice\nonce\ntwice\n", ["twice", "once"]),
        (b"0042\n42\n", ["0042", "42"]),
    ],
)
def test_marks_line_ends_and_quotes_are_not_part_of_an_id(tmp_path: Path, data: bytes, ids: list[str]) -> None:
    assert read_ids(written(tmp_path, data)) == (ids, [])
    assert read_ids(None, written(tmp_path, data)) == ([], ids)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "holds no id"),
        (b"\n  \n", "holds no id"),
        (b"sample_id,reason\ncust-004,art 17\n", "line 1 of .* header"),
        (b'"Subject_ID"\n"u1"\n', "line 1 of .* header"),
        (b"sample_id;date\nx;y\n", "header"),
        (b'"cust-004","art 17"\n', "line 1 of .* begins with a quotation mark"),
        (b'one\n"open\n', "line 2 of .* begins with a quotation mark"),
        (b"one\n# two\n", "line 2 of .* begins with #"),
        (b'""\n', "empty id"),
        ("Zoë\n".encode("latin-1"), "not UTF-8: byte 0xeb in line 1"),
        ("one\nZoë\n".encode("cp1252"), "line 2"),
        ("one\n".encode("utf-16-le"), "NUL"),
        (b"\xff\xfeo\x00n", "not UTF-16"),
        (b"one\n" + b"x" * 1025, "id in line 2 of .* has 1025 characters .*; allowed are 1 to 1024"),
    ],
)
def test_a_file_that_is_not_a_list_of_ids_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_ids(written(tmp_path, data))


def test_standard_input_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbfcust-000\r\n")))
    assert read_ids(Path("-")) == (["cust-000"], [])
    with pytest.raises(ConfigError, match="once"):
        read_ids(Path("-"), Path("-"))


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        ("\ufeffcust-000\r\n".encode("utf-16"), 1),
        (b'"say ""hi"""\n"two\nlines"\n"#7"\n', 3),
        (b" lead\ntrail \nDoe, John\n", 3),
        ("Zoe\u0308\n".encode(), 1),
    ],
)
def test_the_named_rows_are_deleted(lmeraser: Run, system: System, tmp_path: Path, data: bytes, rows: int) -> None:
    ran = lmeraser("delete", "--store", system.store.uri, "--ids-file", written(tmp_path, data), "--json")
    assert (ran.code, ran.json["rows"], ran.json["unknown_ids"], ran.json["nothing_known"]) == (0, rows, [], False)
    assert ran.err == ""


@pytest.mark.parametrize(
    ("identifier", "message"),
    [("", "is empty"), ("x" * 1025, "has 1025 characters"), ("\udce9", r"is '\udce9', which is not")],
)
@pytest.mark.parametrize("option", ["--sample-id", "--subject-id"])
def test_an_impossible_id_in_an_option_is_a_usage_error(
    lmeraser: Run, system: System, option: str, identifier: str, message: str
) -> None:
    before = system.store.names()
    ran = lmeraser("delete", "--store", system.store.uri, "--sample-id", "s9", option, identifier)
    ran.failed(2, f"the id of {option} {message}", "allowed are 1 to 1024 characters")
    assert system.store.names() == before


def test_an_idempotency_key_that_is_not_utf_8_is_a_usage_error(lmeraser: Run, system: System) -> None:
    ran = lmeraser("delete", "--store", system.store.uri, "--sample-id", "s9", "--idempotency-key", "\udce9")
    ran.failed(2, r"--idempotency-key is '\udce9'")


def test_a_file_of_subjects_deletes_their_rows(lmeraser: Run, system: System, tmp_path: Path) -> None:
    file = written(tmp_path, b"u9\nu10\n")
    ran = lmeraser("delete", "--store", system.store.uri, "--subjects-file", file, "--sample-id", "s11", "--json")
    assert (ran.code, ran.json["rows"]) == (0, 3)


def test_a_deletion_of_nobody_fails_unless_that_is_allowed(lmeraser: Run, system: System, tmp_path: Path) -> None:
    ask = ("delete", "--store", system.store.uri, "--ids-file", written(tmp_path, b"lead \nx,y\n"), "--json")
    ran = lmeraser(*ask)
    assert (ran.code, ran.json["rows"], ran.json["nothing_known"]) == (1, 0, True)
    assert ran.json["unknown_ids"] == ["lead ", "x,y"]
    for message in (
        "nothing was deleted",
        "2 of 2",
        "'lead ' has blanks at its ends",
        "'x,y' may be a line",
        "--allow",
    ):
        assert message in ran.err
    ran = lmeraser(*ask, "--allow-unknown")
    assert (ran.code, ran.json["nothing_known"]) == (0, True)
    assert "2 of 2" in ran.err


def test_unknown_ids_next_to_known_ones_are_a_warning(lmeraser: Run, system: System) -> None:
    ran = lmeraser("delete", "--store", system.store.uri, "--sample-id", "s9", "--sample-id", "s99", "--json")
    assert (ran.code, ran.json["rows"], ran.json["nothing_known"]) == (0, 1, False)
    assert "1 of 2 id(s) are not in the store, such as 's99'" in ran.err


def test_the_running_coordinator_reports_why_an_erasure_is_held_up(
    lmeraser: Run, system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    coordinator = system.coordinator()
    deletion_id = coordinator.delete(DeletionRequest(("s9",))).id

    def running(_: object, method: str, *arguments: str) -> Any:
        answer = getattr(coordinator, method)(*arguments)
        if isinstance(answer, Deletion):
            return replace(answer, reason="the disk is full")
        return Page(tuple(replace(deletion, reason="the disk is full") for deletion in answer.items))

    at = ("--store", system.store.uri)
    assert lmeraser("deletions", "show", deletion_id, *at, "--json").json["reason"] is None
    monkeypatch.setattr(StoreDeletions, "_running", running)
    assert lmeraser("deletions", "show", deletion_id, *at, "--json").json["reason"] == "the disk is full"
    assert lmeraser("deletions", "list", *at, "--json").json["deletions"][0]["reason"] == "the disk is full"
    late = lmeraser("deletions", "wait", deletion_id, *at, "--timeout", 0)
    late.failed(1, "is accepted after 0 s, not completed: the disk is full")


def test_deletions_are_shown_without_rays_token(lmeraser: Run, system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise LMEraserError("cannot make or read Ray's token")

    deletion_id = system.coordinator().delete(DeletionRequest(("s9",))).id
    monkeypatch.setattr("cluster.runtime.authenticate", refuse)
    shown = lmeraser("deletions", "show", deletion_id, "--store", system.store.uri, "--json")
    assert (shown.code, shown.json["status"], shown.err) == (0, "accepted", "")


def test_a_retry_that_has_not_begun_is_not_a_failure(
    lmeraser: Run, system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Any:
        raise MemoryError

    monkeypatch.setattr("actors.planner.MIN_BACKOFF_S", 0.0)
    at = ("--store", system.store.uri)
    largest = max(system.newest().clusters, key=lambda entry: entry.rows)
    row = rows_of(system.store, largest).sample_ids[0]
    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "tuned_prompt", fail)
        failed = lmeraser("delete", *at, "--sample-id", row, "--json")
    assert (failed.code, failed.json["status"]) == (1, "failed")
    coordinator = system.coordinator()
    monkeypatch.setattr(StoreDeletions, "_request", lambda _, method, *ids: getattr(coordinator, method)(*ids))
    pauses: list[float] = []

    def work(pause_s: float) -> None:
        pauses.append(pause_s)
        coordinator.step()

    monkeypatch.setattr("cluster.cli.deletions.time.sleep", work)
    done = lmeraser("deletions", "retry", failed.json["id"], *at, "--json")
    assert (done.code, done.json["status"]) == (0, "completed")
    assert pauses
