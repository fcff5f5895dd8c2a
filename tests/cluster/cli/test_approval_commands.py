"""``lmeraser deletions approve`` and ``decline``, on a store by users of the machine, and over HTTP by keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Run
from command_requests import answer_in_process
from direct_service import Service
from live_service import live
from small_system import System

from serving.api_keys import create_api_key

SystemOf = Callable[..., System]


@pytest.fixture
def system(system_of: SystemOf, monkeypatch: pytest.MonkeyPatch) -> System:
    """A store whose log requires approval, and whose coordinator is in this process."""
    monkeypatch.delenv("LMERASER_API_KEY", raising=False)
    system = system_of("minute", 24)
    system.coordinator().approvals.require(True)
    answer_in_process(system, monkeypatch)
    return system


def be(monkeypatch: pytest.MonkeyPatch, user: str) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: user)


def test_two_users_of_a_machine(lmeraser: Run, system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    at = ("--store", system.store.uri)
    be(monkeypatch, "ann")
    asked = lmeraser("delete", *at, "--sample-id", "s3", "--json")
    assert (asked.code, asked.json["status"], asked.json["requested_by"]) == (0, "requested", "user ann")
    assert "nothing is deleted yet: somebody else has to approve it" in asked.err
    waiting = asked.json["id"]
    assert [
        each["id"] for each in lmeraser("deletions", "list", *at, "--status", "requested", "--json").json["deletions"]
    ]
    lmeraser("deletions", "approve", waiting, *at).failed(1, "requested by 'user ann': somebody else must approve it")
    be(monkeypatch, "bob")
    token = lmeraser("preview", *at, "--deletion", waiting, "--json").json["token"]
    approved = lmeraser("deletions", "approve", waiting, *at, "--as-previewed", token, "--json")
    assert (approved.code, approved.json["decided_by"]) == (0, "user bob")
    done = lmeraser("deletions", "wait", waiting, *at, "--json")
    assert (done.json["status"], done.json["as_previewed"], system.newest().rows) == ("completed", True, 23)
    lmeraser("deletions", "approve", waiting, *at).failed(1, "was approved by 'user bob'")


def test_a_declined_deletion_fails_whoever_waits_for_it(
    lmeraser: Run, system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = ("--store", system.store.uri)
    be(monkeypatch, "ann")
    waiting = lmeraser("delete", *at, "--sample-id", "s3", "--json").json["id"]
    lmeraser("deletions", "wait", waiting, *at, "--timeout", 0).failed(1, "is requested after 0 s, not completed")
    assert lmeraser("deletions", "decline", waiting, *at, "--reason", "a duplicate").code == 0
    ended = lmeraser("deletions", "wait", waiting, *at, "--json")
    assert (ended.code, ended.json["status"]) == (1, "declined")
    assert "was declined by 'user ann': a duplicate" in ended.err
    assert system.newest().rows == 24


def test_ids_and_a_deletion_are_not_previewed_together(lmeraser: Run, system: System) -> None:
    ran = lmeraser("preview", "--store", system.store.uri, "--deletion", "x", "--sample-id", "s3")
    ran.failed(2, "--deletion and ids exclude each other")


def test_two_keys_of_a_service(lmeraser: Run, system: System, tmp_path: Path) -> None:
    def key_file(name: str, *scopes: str) -> tuple[str, str]:
        file = tmp_path / name
        file.write_text(create_api_key(system.keys, scopes, name)[1])
        file.chmod(0o600)
        return "--api-key-file", str(file)

    clerk, officer = key_file("clerk", "delete"), key_file("officer", "approve")
    with live(Service(system)) as url:
        asked = lmeraser("delete", "--url", url, *clerk, "--sample-id", "s3", "--json")
        assert (asked.code, asked.json["status"]) == (0, "requested")
        lmeraser("deletions", "approve", asked.json["id"], "--url", url, *clerk).failed(1, "scope 'approve' is needed")
        assert lmeraser("deletions", "approve", asked.json["id"], "--url", url, *officer).code == 0
        done = lmeraser("deletions", "wait", asked.json["id"], "--url", url, *clerk, "--json")
        assert (done.json["status"], done.json["decided_by"]) == ("completed", "officer")
