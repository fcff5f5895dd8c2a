"""Who may call which route: API keys and their scopes, over HTTP."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx2
import pytest
from direct_service import URL, Service
from small_system import System, picture

from lmeraser.errors import KeysError
from serving.api_keys import FILE, ApiKeys, create_api_key, revoke_api_key
from serving.app import build

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


def ask(
    service: Service,
    method: str,
    path: str,
    key: str | None = None,
    caller: str = "127.0.0.1",
    more: dict[str, str] | None = None,
) -> httpx2.Response:
    """Call from a machine with this address. The body is not JSON, so that nothing is changed."""

    async def run() -> httpx2.Response:
        transport = httpx2.ASGITransport(service.app, client=(caller, 40_000))
        async with httpx2.AsyncClient(base_url=URL, transport=transport) as client:
            headers = [(b"content-type", b"application/json")]
            if key is not None:
                headers.append((b"authorization", f"Bearer {key}".encode()))
            headers += [(name.encode(), value.encode()) for name, value in (more or {}).items()]
            return await client.request(method, path, headers=headers, content=b"{" if method == "POST" else None)

    return asyncio.run(run())


def new_key(service: Service, *scopes: str) -> str:
    return create_api_key(service.system.keys, scopes)[1]


@pytest.fixture
def service(system_of: SystemOf) -> Service:
    return Service(system_of())


def assert_refused(answer: httpx2.Response, status: int, scope: str) -> None:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert f"{scope!r}" in answer.json()["detail"]
    assert f'scope="{scope}"' in answer.headers["www-authenticate"]
    assert answer.headers["www-authenticate"].startswith("Bearer ")


def test_a_key_opens_the_routes_of_its_scopes_and_no_others(service: Service) -> None:
    keys = {scope: new_key(service, scope) for scope in ROUTES}
    for scope, method, path in GUARDED:
        for key_scope, key in keys.items():
            answer = ask(service, method, path, key)
            if key_scope in (scope, "admin"):
                # 404 and 422 come from the route itself.
                assert answer.status_code in (200, 404, 422), (key_scope, path)
            else:
                assert_refused(answer, 403, scope)
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
    for scope, method, path in GUARDED:
        assert_refused(ask(service, method, path), 401, scope)
        for wrong in (key[:-1], key + "x", key.upper(), "é" * 30, ""):
            answer = ask(service, method, path, wrong)
            assert_refused(answer, 401, scope)
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


@pytest.mark.parametrize(
    ("caller", "status"), [("127.0.0.1", 200), ("127.9.9.9", 200), ("::1", 200), ("203.0.113.9", 401), ("", 401)]
)
def test_without_keys_only_this_machine_may_call(service: Service, caller: str, status: int) -> None:
    assert ask(service, "GET", "/v1/commit", caller=caller).status_code == status
    assert ask(service, "GET", "/v1/commit", "any", caller=caller).status_code == status


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


@pytest.mark.parametrize(
    "name",
    [
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Forwarded-Prefix",
        "X-Original-Forwarded-For",
        "Forwarded",
        "X-Real-IP",
        "Via",
        "CF-Connecting-IP",
        "True-Client-IP",
        "X-Client-IP",
        "X-Cluster-Client-IP",
        "Fastly-Client-IP",
        "X-Azure-ClientIP",
        "X-Envoy-External-Address",
        "X-Amzn-Trace-Id",
        "CDN-Loop",
        "X-Remote-Addr",
    ],
)
def test_without_keys_a_call_through_a_proxy_is_not_local(service: Service, name: str) -> None:
    for value in ("127.0.0.1", "203.0.113.9", ""):
        answer = ask(service, "GET", "/v1/commit", more={name: value})
        assert_refused(answer, 401, "admin")
    assert ask(service, "GET", "/v1/commit", new_key(service, "admin"), more={name: "203.0.113.9"}).status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8000", "localhost:1", "LocalHost", "[::1]", "[::1]:8000"])
def test_without_keys_the_names_of_this_machine_are_accepted(service: Service, host: str) -> None:
    own = {"host": host, "origin": f"http://{host}", "sec-fetch-site": "same-origin"}
    for method, path in (route for routes in ROUTES.values() for route in routes):
        assert ask(service, method, path, more=own).status_code in (200, 404, 422), path


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "192.168.0.7", "", "::1"],
)
def test_without_keys_a_foreign_host_name_is_misdirected(service: Service, host: str) -> None:
    for _, method, path in GUARDED:
        answer = ask(service, method, path, more={"host": host, "origin": f"http://{host}"})
        assert (answer.status_code, answer.headers["content-type"]) == (421, "application/problem+json"), path
        assert repr(host) in answer.json()["detail"]
    assert ask(service, "GET", "/healthz", more={"host": host}).status_code == 200
    key = new_key(service, "admin")
    assert ask(service, "GET", "/v1/commit", key, more={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "more",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "http://127.0.0.1"},
        {"origin": "http://localhost:8000"},
        {"origin": ""},
        {"sec-fetch-site": "cross-site"},
        {"origin": "http://127.0.0.1:8000", "sec-fetch-site": "cross-site"},
    ],
    ids=str,
)
def test_without_keys_foreign_pages_may_not_call(service: Service, more: dict[str, str]) -> None:
    for _, method, path in GUARDED:
        answer = ask(service, method, path, more=more)
        assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json"), path
    assert ask(service, "GET", "/v1/commit", new_key(service, "admin"), more=more).status_code == 200


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "text/plain",
        "text/plain;charset=application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "",
    ],
)
def test_what_a_page_may_send_without_a_preflight_deletes_nothing(service: Service, content_type: str | None) -> None:
    # Without Origin, as from a browser or an extension that omits it.
    headers = {} if content_type is None else {"content-type": content_type}
    for path in ("/v1/deletions", "/v1/predict"):
        answer = service.http("POST", path, content=b'{"sample_ids": ["s3"]}', headers=headers)
        assert answer.status_code in (400, 415, 422), path
        assert answer.headers["content-type"] == "application/problem+json"
    assert service.coordinator.coordinator.deletions() == []
    assert service.http("OPTIONS", "/v1/deletions", headers={"origin": "http://evil.example"}).status_code == 405


def test_a_service_that_starts_with_keys_expects_them(service: Service) -> None:
    arguments = {"store": service.system.store.uri, "keys": str(service.system.keys)}
    # The deployment's arguments: store, keys, whether there are keys, options.
    assert build(arguments)._bound_deployment.init_args[2] is False
    new_key(service, "predict")
    assert build(arguments)._bound_deployment.init_args[2] is True
