"""``lmeraser preview``, and ``delete`` as previewed: on a store, and over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from command_line import Run
from command_requests import answer_in_process
from direct_service import Service
from live_service import live
from small_system import System

SystemOf = Callable[..., System]


@pytest.fixture
def system(system_of: SystemOf, monkeypatch: pytest.MonkeyPatch) -> System:
    """A store whose coordinator is in this process: previews and deletions need no Ray."""
    system = system_of("minute", 24)
    answer_in_process(system, monkeypatch)
    return system


@pytest.fixture(params=["--store", "--url"])
def at(request: pytest.FixtureRequest, system: System) -> Iterator[tuple[str, str]]:
    """The options that name the store, or the service in front of it."""
    if request.param == "--store":
        yield "--store", system.store.uri
    else:
        with live(Service(system)) as url:
            yield "--url", url


def test_a_deletion_does_what_was_previewed(lmeraser: Run, system: System, at: tuple[str, str]) -> None:
    named = ("--sample-id", "s3", "--subject-id", "u7", "--sample-id", "s99")
    before = system.newest().number
    previewed = lmeraser("preview", *at, *named, "--json")
    assert (previewed.code, previewed.json["rows"], "sample_ids" in previewed.json) == (0, 2, False)
    assert "1 id(s) are not in the store, such as 's99'" in previewed.err
    assert system.newest().number == before
    assert lmeraser("preview", *at, *named, "--show-ids", "--json").json["sample_ids"] == ["s3", "s7"]
    done = lmeraser("delete", *at, *named, "--as-previewed", previewed.json["token"], "--json")
    assert (done.code, done.json["as_previewed"], done.json["rows"]) == (0, True, 2)
    late = lmeraser("delete", *at, "--sample-id", "s3", "--as-previewed", previewed.json["token"])
    late.failed(1, "of other ids, or of another store")


def test_a_stale_preview_is_refused(lmeraser: Run, system: System, at: tuple[str, str]) -> None:
    token = lmeraser("preview", *at, "--sample-id", "s3", "--json").json["token"]
    assert lmeraser("delete", *at, "--sample-id", "s9").code == 0
    rows = system.newest().rows
    late = lmeraser("delete", *at, "--sample-id", "s3", "--as-previewed", token)
    late.failed(1, "nothing was begun; preview again")
    assert system.newest().rows == rows


def test_a_preview_is_printed_for_people(lmeraser: Run, system: System) -> None:
    shown = lmeraser("preview", "--store", system.store.uri, "--sample-id", "s3")
    assert shown.code == 0
    names = {line.split()[0] for line in shown.out.splitlines()}
    assert {"rows", "clusters", "coreset_rows", "row_passes", "root", "token"} <= names
