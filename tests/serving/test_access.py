"""Who may call what: API keys and their scopes, over HTTP."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from direct_service import URL, Service
from small_system import System, picture

from lmeraser.api_keys import FILE, create_api_key, revoke_api_key

SystemOf = Callable[..., System]
OPEN = [("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/docs"), ("GET", "/openapi.json")]
ROUTES = {
    "predict": [("POST", "/v1/predict")],
    "delete": [
        ("POST", "/v1/deletions"),
        ("GET", "/v1/deletions"),
        ("GET", "/v1/deletions/none"),
        ("GET", "/v1/deletions/none/receipt"),
        ("POST", "/v1/deletions/none/retry"),
    ],
    "admin": [("GET", "/v1/clusters"), ("GET", "/v1/commit")],
}
GUARDED = [(scope, method, path) for scope, routes in ROUTES.items() for method, path in routes]


def ask(service: Service, method: str, path: str, key: str | None = None, caller: str = "127.0.0.1") -> httpx2.Response:
    """Call as a machine of this address; a body that is no JSON, so that nothing is changed."""

    async def run() -> httpx2.Response:
        transport = httpx2.ASGITransport(service.app, client=(caller, 40_000))
        async with httpx2.AsyncClient(base_url=URL, transport=transport) as client:
            headers = [(b"content-type", b"application/json")]
            if key is not None:
                headers.append((b"authorization", f"Bearer {key}".encode()))
            return await client.request(method, path, headers=headers, content=b"{" if method == "POST" else None)

    return asyncio.run(run())


def made(service: Service, *scopes: str) -> str:
    return create_api_key(service.system.keys, scopes)[1]


@pytest.fixture
def service(system_of: SystemOf) -> Service:
    return Service(system_of())


def is_problem(answer: httpx2.Response, status: int, scope: str) -> None:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert f"{scope!r}" in answer.json()["detail"]
    assert f'scope="{scope}"' in answer.headers["www-authenticate"]
    assert answer.headers["www-authenticate"].startswith("Bearer ")


def test_a_key_opens_the_routes_of_its_scopes_and_no_other(service: Service) -> None:
    keys = {scope: made(service, scope) for scope in ROUTES}
    for scope, method, path in GUARDED:
        for held, key in keys.items():
            answer = ask(service, method, path, key)
            if held in (scope, "admin"):
                # 404 and 422 come from behind the guard.
                assert answer.status_code in (200, 404, 422), (held, path)
            else:
                is_problem(answer, 403, scope)
                assert key not in answer.text + str(answer.headers)


def test_every_route_is_either_guarded_or_meant_to_be_open(service: Service) -> None:
    made(service, "predict")
    paths = service.app.openapi()["paths"]
    listed = {(method.upper(), path) for path, operations in paths.items() for method in operations}
    for method, path in listed - set(OPEN):
        assert ask(service, method, path.replace("{deletion_id}", "x")).status_code == 401, path
    assert len(listed) == len(GUARDED) + 2


def test_without_a_valid_key_every_guarded_route_is_closed(service: Service) -> None:
    key = made(service, "admin")
    for scope, method, path in GUARDED:
        is_problem(ask(service, method, path), 401, scope)
        for wrong in (key[:-1], key + "x", key.upper(), "é" * 30, ""):
            answer = ask(service, method, path, wrong)
            is_problem(answer, 401, scope)
            assert not wrong or wrong not in answer.text + str(answer.headers)


def test_health_and_documentation_need_no_key(service: Service) -> None:
    made(service, "admin")
    for method, path in OPEN:
        assert ask(service, method, path, caller="203.0.113.9").status_code == 200, path


def test_a_key_is_good_from_its_making_until_it_is_revoked(service: Service) -> None:
    folder = service.system.keys
    first, second = create_api_key(folder, ["admin"]), create_api_key(folder, ["admin"])
    for key, secret in (first, second):
        assert ask(service, "GET", "/v1/commit", secret).status_code == 200
        revoke_api_key(folder, key.id)
        assert ask(service, "GET", "/v1/commit", secret).status_code == 401
    # All keys are revoked: that does not open the service.
    assert ask(service, "GET", "/v1/commit").status_code == 401


@pytest.mark.parametrize(
    ("caller", "status"), [("127.0.0.1", 200), ("127.9.9.9", 200), ("::1", 200), ("203.0.113.9", 401), ("", 401)]
)
def test_without_keys_only_this_machine_may_call(service: Service, caller: str, status: int) -> None:
    assert ask(service, "GET", "/v1/commit", caller=caller).status_code == status
    assert ask(service, "GET", "/v1/commit", "any", caller=caller).status_code == status


def test_keys_that_cannot_be_read_close_the_service(service: Service) -> None:
    path = service.system.keys / FILE
    for content, mode in ((b"no JSON", 0o600), (b"[]", 0o644), (b'[{"id": "a"}]', 0o600)):
        path.write_bytes(content)
        path.chmod(mode)
        answer = ask(service, "GET", "/v1/commit")
        assert answer.status_code == 503
        assert answer.json()["type"].endswith("keys-unavailable")
        assert str(service.system.keys) not in answer.text
    path.unlink()
    assert ask(service, "GET", "/v1/commit").status_code == 200


def test_a_stranger_is_turned_away_before_the_body_is_read(service: Service) -> None:
    made(service, "admin")
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


def test_a_deletion_through_a_key_is_carried_out(service: Service) -> None:
    headers = {"authorization": f"bearer {made(service, 'delete')}"}
    accepted = service.http("POST", "/v1/deletions", json={"sample_ids": ["s3"]}, headers=headers)
    assert accepted.status_code == 202
    service.registrar.finish()
    receipt = service.http("GET", f"{accepted.headers['location']}/receipt", headers=headers)
    assert receipt.status_code == 200
    image = {"content": picture(3), "headers": {**headers, "content-type": "image/png"}}
    assert service.http("POST", "/v1/predict", **image).status_code == 403


def test_keys_are_read_again_only_when_their_file_changes(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    key = made(service, "admin")
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
