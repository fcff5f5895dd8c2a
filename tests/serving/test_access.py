"""Who may call which route: API keys and their scopes, over HTTP."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from direct_service import Service
from guarded_calls import GUARDED, ask, assert_refused, new_key
from small_system import System, picture

from lmeraser.errors import KeysError
from serving.api_keys import FILE, SCOPES, ApiKeys, create_api_key, revoke_api_key
from serving.app import build

SystemOf = Callable[..., System]
OPEN = [("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/docs"), ("GET", "/openapi.json")]


@pytest.fixture
def service(system_of: SystemOf) -> Service:
    return Service(system_of())


def test_a_key_opens_the_routes_of_its_scopes_and_no_others(service: Service) -> None:
    keys = {scope: new_key(service, scope) for scope in SCOPES}
    for scopes, method, path in GUARDED:
        for key_scope, key in keys.items():
            answer = ask(service, method, path, key)
            if key_scope in (*scopes, "admin"):
                # 404, 415 and 422 come from the route itself.
                assert answer.status_code in (200, 404, 415, 422), (key_scope, path)
            else:
                assert_refused(answer, 403, scopes)
                assert key not in answer.text + str(answer.headers)


def test_every_route_is_either_guarded_or_open_on_purpose(service: Service) -> None:
    new_key(service, "predict")
    paths = service.app.openapi()["paths"]
    listed = {(method.upper(), path) for path, operations in paths.items() for method in operations}
    for method, path in listed - set(OPEN):
        assert ask(service, method, path.replace("{deletion_id}", "x")).status_code == 401, path
    assert len(listed) == len(GUARDED) + 2


def test_without_a_valid_key_every_guarded_route_is_closed(service: Service) -> None:
    key = new_key(service, "admin")
    for scopes, method, path in GUARDED:
        assert_refused(ask(service, method, path), 401, scopes)
        for wrong in (key[:-1], key + "x", key.upper(), "é" * 30, ""):
            answer = ask(service, method, path, wrong)
            assert_refused(answer, 401, scopes)
            assert not wrong or wrong not in answer.text + str(answer.headers)


def test_health_and_documentation_need_no_key(service: Service) -> None:
    new_key(service, "admin")
    for method, path in OPEN:
        assert ask(service, method, path, caller="203.0.113.9").status_code == 200, path


def test_a_key_is_valid_from_its_creation_until_it_is_revoked(service: Service) -> None:
    folder = service.system.keys
    first, second = create_api_key(folder, ["admin"]), create_api_key(folder, ["admin"])
    for key, secret in (first, second):
        assert ask(service, "GET", "/v1/commit", secret).status_code == 200
        revoke_api_key(folder, key.id)
        assert ask(service, "GET", "/v1/commit", secret).status_code == 401
    # Revoking all keys does not open the service.
    assert ask(service, "GET", "/v1/commit").status_code == 401


def test_an_unreadable_key_file_closes_the_service(service: Service) -> None:
    path = service.system.keys / FILE
    for content, mode in ((b"no JSON", 0o600), (b"[]", 0o644), (b'[{"id": "a"}]', 0o600)):
        path.write_bytes(content)
        path.chmod(mode)
        answer = ask(service, "GET", "/v1/commit")
        assert answer.status_code == 503
        assert answer.json()["type"].endswith("keys-unavailable")
        assert str(service.system.keys) not in answer.text


def test_a_caller_without_a_key_is_refused_before_the_body_is_read(service: Service) -> None:
    new_key(service, "admin")
    read: list[bytes] = []

    async def run() -> int:
        async def receive() -> Any:
            read.append(b"")
            return {"type": "http.request", "body": b"{}", "more_body": False}

        statuses: list[int] = []

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        scope = {"type": "http", "method": "POST", "path": "/v1/deletions", "raw_path": b"/v1/deletions"}
        scope |= {"query_string": b"", "headers": [], "client": ("203.0.113.9", 1), "root_path": "", "scheme": "http"}
        await service.app(scope, receive, send)
        return statuses[0]

    assert asyncio.run(run()) == 401
    assert read == []


def test_a_deletion_with_a_key_is_carried_out(service: Service) -> None:
    headers = {"authorization": f"bearer {new_key(service, 'delete')}"}
    accepted = service.http("POST", "/v1/deletions", json={"sample_ids": ["s3"]}, headers=headers)
    assert accepted.status_code == 202
    service.coordinator.finish()
    location = urljoin("/v1/deletions", accepted.headers["location"])
    assert location == f"/v1/deletions/{accepted.json()['id']}"
    receipt = service.http("GET", f"{location}/receipt", headers=headers)
    assert receipt.status_code == 200
    image = {"content": picture(3), "headers": {**headers, "content-type": "image/png"}}
    assert service.http("POST", "/v1/predict", **image).status_code == 403


def test_the_key_file_is_read_again_only_when_it_changes(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    key = new_key(service, "admin")
    assert ask(service, "GET", "/v1/commit", key).status_code == 200
    opened: list[str] = []
    read_bytes = Path.read_bytes

    def counted(path: Path) -> bytes:
        opened.append(path.name)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", counted)
    assert ask(service, "GET", "/v1/commit", key).status_code == 200
    assert FILE not in opened
    os.utime(service.system.keys / FILE, ns=(1, 1))
    assert ask(service, "GET", "/v1/commit", key).status_code == 200
    assert opened.count(FILE) == 1


@pytest.mark.parametrize("lost", ["file", "folder", "emptied"])
def test_a_key_file_that_was_lost_closes_the_service(service: Service, lost: str) -> None:
    key = new_key(service, "admin")
    folder = service.system.keys
    away = folder.parent / "away"
    if lost == "emptied":
        assert ask(service, "GET", "/v1/commit").status_code == 401
        (folder / FILE).write_bytes(b"[]")
    else:
        assert ask(service, "GET", "/v1/commit").status_code == 401
        (folder / FILE if lost == "file" else folder).rename(away)
    try:
        for given in (None, key):
            answer = ask(service, "GET", "/v1/commit", given)
            assert (answer.status_code, answer.json()["type"]) == (503, "urn:lmeraser:problem:keys-unavailable")
            assert str(folder) not in answer.text
    finally:
        if lost != "emptied":
            away.rename(folder / FILE if lost == "file" else folder)
    if lost != "emptied":
        assert ask(service, "GET", "/v1/commit", key).status_code == 200


def test_missing_keys_are_an_error_when_keys_are_expected(tmp_path: Path) -> None:
    assert ApiKeys(tmp_path).current() == ()
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(KeysError, match="are missing"):
            ApiKeys(folder, expected=True).current()


def test_a_service_that_starts_with_keys_expects_them(service: Service) -> None:
    arguments = {"store": service.system.store.uri, "keys": str(service.system.keys)}
    # The deployment's arguments: store, keys, whether there are keys, options.
    assert build(arguments)._bound_deployment.init_args[2] is False
    new_key(service, "predict")
    assert build(arguments)._bound_deployment.init_args[2] is True
