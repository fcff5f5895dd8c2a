"""While there are no API keys, only programs on this machine may call, and no foreign web pages."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from direct_service import Service
from guarded_calls import GUARDED, ask, assert_refused, new_key
from small_system import System

SystemOf = Callable[..., System]


@pytest.fixture
def service(system_of: SystemOf) -> Service:
    return Service(system_of())


@pytest.mark.parametrize(
    ("caller", "status"), [("127.0.0.1", 200), ("127.9.9.9", 200), ("::1", 200), ("203.0.113.9", 401), ("", 401)]
)
def test_without_keys_only_this_machine_may_call(service: Service, caller: str, status: int) -> None:
    assert ask(service, "GET", "/v1/commit", caller=caller).status_code == status
    assert ask(service, "GET", "/v1/commit", "any", caller=caller).status_code == status


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
        assert_refused(answer, 401, ("read",))
    assert ask(service, "GET", "/v1/commit", new_key(service, "admin"), more={name: "203.0.113.9"}).status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8000", "localhost:1", "LocalHost", "[::1]", "[::1]:8000"])
def test_without_keys_the_names_of_this_machine_are_accepted(service: Service, host: str) -> None:
    own = {"host": host, "origin": f"http://{host}", "sec-fetch-site": "same-origin"}
    for _, method, path in GUARDED:
        assert ask(service, method, path, more=own).status_code in (200, 404, 415, 422), path


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
    assert service.coordinator.coordinator.recent_deletions() == []
    assert service.http("OPTIONS", "/v1/deletions", headers={"origin": "http://evil.example"}).status_code == 405
