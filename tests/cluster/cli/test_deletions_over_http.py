"""``delete``, ``deletions`` and ``receipt show`` with ``--url``: the same answers, and exit codes, over HTTP."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import CommandResult, Run
from direct_service import Service
from live_service import live
from small_system import System
from stored_rows import rows_of

from actors import backlog
from actors.segment_access import SegmentAccess
from lmeraser.client import exchange
from lmeraser.deletion import Deletion
from lmeraser.errors import RateLimitError, StoreError
from lmeraser.proof.receipts import verify_receipt
from lmeraser.state.keys import load_signing_key
from lmeraser.state.pipeline import Pipeline
from serving.api_keys import create_api_key, revoke_api_key

SystemOf = Callable[..., System]


@pytest.fixture
def service(system_of: SystemOf, monkeypatch: pytest.MonkeyPatch) -> Service:
    monkeypatch.delenv("LMERASER_API_KEY", raising=False)
    monkeypatch.setattr(exchange, "MIN_BACKOFF_S", 0.01)
    return Service(system_of())


@pytest.fixture
def url(service: Service) -> Iterator[str]:
    with live(service) as address:
        yield address


@pytest.fixture
def api_key(service: Service) -> str:
    return create_api_key(service.system.keys, ["delete"])[1]


@pytest.fixture
def key_file(api_key: str, tmp_path: Path) -> Path:
    return secret_file(tmp_path, f"{api_key}\n")


def secret_file(folder: Path, content: str, mode: int = 0o600) -> Path:
    file = folder / "api.key"
    file.write_text(content)
    file.chmod(mode)
    return file


def both(lmeraser: Run, service: Service, url: str, *command: object) -> tuple[CommandResult, CommandResult]:
    """The same command over HTTP and on the store."""
    over_http = lmeraser(*command, "--url", url)
    return over_http, lmeraser(*command, "--store", service.system.store.uri)


def test_a_deletion_over_http_prints_what_one_on_the_store_prints(lmeraser: Run, service: Service, url: str) -> None:
    deleted = lmeraser(
        "delete", "--url", url, "--sample-id", "s3", "--subject-id", "u40", "--sample-id", "s99", "--json"
    )
    assert (deleted.code, deleted.json["status"], deleted.json["rows"]) == (0, "completed", 2)
    assert (deleted.json["unknown"], deleted.json["unknown_ids"]) == (1, ["s99"])
    assert "1 of 3 id(s) are not in the store, such as 's99'" in deleted.err
    deletion_id = deleted.json["id"]
    for command in (
        ("deletions", "list", "--json"),
        ("deletions", "list"),
        ("deletions", "show", deletion_id, "--json"),
        ("deletions", "show", deletion_id),
        ("deletions", "wait", deletion_id, "--status", "erased", "--json"),
        ("receipt", "show", deletion_id),
    ):
        over_http, on_the_store = both(lmeraser, service, url, *command)
        assert over_http == on_the_store and over_http.code == 0, command
    receipt = lmeraser("receipt", "show", deletion_id, "--url", url).json
    assert receipt["unknown"] == 1
    verify_receipt(receipt, load_signing_key(service.system.keys).public_key())


def test_ids_come_from_files_and_from_standard_input(
    lmeraser: Run, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "subjects").write_bytes(b"u7\nu8\n")
    ran = lmeraser("delete", "--url", url, "--subjects-file", tmp_path / "subjects", "--wait", "accepted", "--json")
    assert (ran.code, ran.json["rows"]) == (0, 2)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"s9\r\ns10\r\n")))
    ran = lmeraser("delete", "--url", url, "--ids-file", "-", "--idempotency-key", "ticket-17", "--json")
    assert (ran.code, ran.json["rows"]) == (0, 2)
    again = lmeraser(
        *("delete", "--url", url, "--sample-id", "s9", "--sample-id", "s10", "--idempotency-key", "ticket-17", "--json")
    )
    assert again.json["id"] == ran.json["id"]
    other = lmeraser("delete", "--url", url, "--sample-id", "s11", "--idempotency-key", "ticket-17")
    other.failed(1, "POST /v1/deletions: 409", "idempotency key")


def test_a_deletion_of_nobody_fails_over_http_too(lmeraser: Run, url: str) -> None:
    ask = ("delete", "--url", url, "--sample-id", "s99", "--json")
    ran = lmeraser(*ask)
    assert (ran.code, ran.json["nothing_known"]) == (1, True)
    assert "nothing was deleted: 1 of 1 id(s)" in ran.err
    assert lmeraser(*ask, "--allow-unknown").code == 0


def test_a_deadline_goes_with_the_request(lmeraser: Run, url: str) -> None:
    ask = ("delete", "--url", url, "--sample-id", "s3", "--wait", "accepted", "--json", "--deadline")
    assert lmeraser(*ask, "2027-01-01T02:00:00+02:00").json["deadline"] == "2027-01-01T00:00:00.000+00:00"
    for wrong in ("2027-01-01T02:00:00", "soon"):
        lmeraser(*ask, wrong).failed(2, f"--deadline is {wrong!r}", "offset from UTC")


def test_a_key_file_or_the_environment_gives_the_api_key(
    lmeraser: Run, url: str, api_key: str, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lmeraser("deletions", "list", "--url", url, "--api-key-file", key_file).code == 0
    monkeypatch.setenv("LMERASER_API_KEY", api_key)
    assert lmeraser("deletions", "list", "--url", url).code == 0


COMMANDS = ["delete --sample-id s3", "deletions list", "deletions show x", "deletions wait x", "deletions retry x"]
COMMANDS += ["receipt show x"]


@pytest.mark.parametrize("command", COMMANDS)
def test_without_a_key_that_may_delete_every_command_is_refused(
    lmeraser: Run, service: Service, url: str, api_key: str, tmp_path: Path, command: str
) -> None:
    keys = service.system.keys
    revoked, revoked_secret = create_api_key(keys, ["delete"])
    revoke_api_key(keys, revoked.id)
    predict = create_api_key(keys, ["predict"])[1]
    ask = (*command.split(), "--url", url)
    lmeraser(*ask).failed(1, ": 401 Unauthorized: an API key with the scope ", "'delete'", " is needed", "(request ")
    for wrong in (f"{api_key}x", revoked_secret):
        ran = lmeraser(*ask, "--api-key-file", secret_file(tmp_path, wrong))
        ran.failed(1, ": 401 Unauthorized: the API key is unknown or revoked")
        assert wrong not in ran.err
    ran = lmeraser(*ask, "--api-key-file", secret_file(tmp_path, predict))
    ran.failed(1, ": 403 Forbidden: the API key", "has the scopes predict; the scope ", "'delete'", " is needed")
    assert service.coordinator.coordinator.recent_deletions() == []


def test_a_key_file_that_others_may_read_or_that_holds_no_key_is_refused(
    lmeraser: Run, url: str, tmp_path: Path
) -> None:
    ask = ("deletions", "list", "--url", url, "--api-key-file")
    lmeraser(*ask, secret_file(tmp_path, "secret", 0o640)).failed(1, "api.key may be read by others (mode 0640)")
    lmeraser(*ask, secret_file(tmp_path, "\n")).failed(2, "api.key holds no API key")
    lmeraser(*ask, secret_file(tmp_path, "two words")).failed(2, "the API key")
    lmeraser(*ask, tmp_path / "none").failed(2, f"cannot read {tmp_path / 'none'}")


@pytest.mark.parametrize("option", ["--store", "--keys", "--config", "--s3-endpoint"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_service_and_a_store_exclude_each_other(lmeraser: Run, command: str, option: str) -> None:
    ran = lmeraser(*command.split(), "--url", "http://127.0.0.1:1", option, "x")
    ran.failed(2, f"--url and {option} exclude each other: the service at --url has its own store")


def test_an_api_key_is_only_accepted_with_a_service(lmeraser: Run, service: Service) -> None:
    ran = lmeraser("deletions", "list", "--store", service.system.store.uri, "--api-key-file", "x")
    ran.failed(2, "--api-key-file is only used together with --url")


def test_an_unknown_deletion_id_is_not_found(lmeraser: Run, url: str) -> None:
    for command in ("deletions show", "deletions wait", "deletions retry", "receipt show"):
        lmeraser(*command.split(), "nobody", "--url", url).failed(1, "/v1/deletions/nobody", ": 404 ", "'nobody'")
    lmeraser("deletions", "show", "no such", "--url", url).failed(1, "the id of a deletion is 'no such'")


def test_a_service_that_refuses_further_unknown_ids_says_so(
    lmeraser: Run, service: Service, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> Deletion:
        raise RateLimitError("too many unknown ids: wait a minute")

    monkeypatch.setattr(exchange, "MAX_RETRY_AFTER_S", 0.0)
    monkeypatch.setattr(service.coordinator, "delete", refuse)
    ran = lmeraser("delete", "--url", url, "--sample-id", "s99")
    ran.failed(1, "POST /v1/deletions: 429", "too many unknown ids: wait a minute")


def test_without_a_service_the_command_fails(lmeraser: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "MIN_BACKOFF_S", 0.01)
    lmeraser("deletions", "list", "--url", "http://127.0.0.1:1").failed(1, "GET /v1/deletions", "no answer")
    lmeraser("deletions", "list", "--url", "127.0.0.1:8000").failed(2, "the service's address is '127.0.0.1:8000'")


def test_why_an_erasure_is_held_up_is_shown_while_it_waits(
    lmeraser: Run, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Any:
        raise StoreError("the disk is full")

    monkeypatch.setattr(backlog, "MIN_BACKOFF_S", 0.05)
    monkeypatch.setattr(backlog, "LONGEST_PAUSE_S", 0.05)
    with monkeypatch.context() as patch:
        patch.setattr(SegmentAccess, "table", fail)
        late = lmeraser("delete", "--url", url, "--sample-id", "s3", "--wait", "erased", "--timeout", 1)
        late.failed(1, "is accepted after 1 s, not erased: ", "the disk is full")
        (deletion,) = lmeraser("deletions", "list", "--url", url, "--json").json["deletions"]
        shown = lmeraser("deletions", "show", deletion["id"], "--url", url)
        assert shown.code == 0 and "the disk is full" in shown.out
    done = lmeraser("deletions", "wait", deletion["id"], "--url", url, "--json").json
    assert (done["status"], done["reason"]) == ("completed", None)


def test_a_retry_waits_for_its_own_outcome(
    lmeraser: Run, service: Service, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Any:
        raise MemoryError

    monkeypatch.setattr("actors.planner.MIN_BACKOFF_S", 0.0)
    largest = max(service.system.newest().clusters, key=lambda entry: entry.rows)
    row = rows_of(service.system.store, largest).sample_ids[0]
    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "tuned_prompt", fail)
        ran = lmeraser("delete", "--url", url, "--sample-id", row, "--json")
        assert (ran.code, ran.json["status"]) == (1, "failed")
        assert "is erased, but failed to complete: cluster" in ran.err and "MemoryError" in ran.err
        again = lmeraser("deletions", "retry", ran.json["id"], "--url", url, "--json")
        assert (again.code, again.json["status"]) == (1, "failed")
    done = lmeraser("deletions", "retry", ran.json["id"], "--url", url, "--json")
    assert (done.code, done.json["status"], done.json["reason"]) == (0, "completed", None)
    lmeraser("deletions", "retry", ran.json["id"], "--url", url).failed(1, ": 422 ", "only a failed deletion")
