"""What programs and browsers expect of an HTTP service besides its routes."""

from __future__ import annotations

import base64
import codecs
import gzip
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urljoin

import pytest
from direct_service import Service
from PIL import Image
from small_system import System, picture

from serving.api_keys import ApiKeys
from serving.http_routes import create_app

SystemOf = Callable[..., System]
JSON = {"content-type": "application/json"}
PAGES = ["/", "/page.css", "/page.js", "/docs", "/docs/docs.js", "/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js"]


def forms(data: bytes) -> dict[str, str]:
    plain = base64.b64encode(data).decode()
    lines = base64.encodebytes(data).decode()
    for_urls = base64.urlsafe_b64encode(data).decode()
    return {
        "plain": plain,
        "data URL": f"data:image/png;base64,{plain}",
        "data URL with parameters": f"data:image/png;name=a.png;BASE64,{plain}",
        "data URL without a type": f"data:;base64,{plain}",
        "URL-safe": for_urls,
        "lines": lines,
        "Windows lines": lines.replace("\n", "\r\n"),
        "white space around": f"  {plain}\t",
        "without padding": plain.rstrip("="),
        "data URL, URL-safe, without padding": f"data:image/png;base64,{for_urls.rstrip('=')}",
    }


def test_base64_as_written_by_browsers_shells_and_tokens_is_the_same_image(system_of: SystemOf) -> None:
    service = Service(system_of())
    # Bytes after the end of a PNG are ignored: lengths of every remainder by 3, and both characters that differ.
    for tail in (b"", b"\xfb\xff", b"\xfb\xff\xfe", b"\xff"):
        written = forms(picture(5) + tail)
        answers = service.http("POST", "/v1/predict", json={"images": list(written.values())}).json()["predictions"]
        for name, answer in zip(written, answers, strict=True):
            assert answer["cluster"] == answers[0]["cluster"], name
            assert answer["probabilities"] == pytest.approx(answers[0]["probabilities"]), name


@pytest.mark.parametrize(
    "text", ["a", "AAAAA", "A*==", "data:image/png,%89PNG", "data:image/png;base64", "Ä", "\u00a0AAAA"]
)
def test_the_error_for_text_that_is_not_base64_says_what_is_allowed(system_of: SystemOf, text: str) -> None:
    (answer,) = Service(system_of()).http("POST", "/v1/predict", json={"images": [text]}).json()["predictions"]
    assert "not base64: allowed are A-Z a-z 0-9 + / (or - _" in answer["error"]["detail"]


def test_a_byte_order_mark_before_json_is_ignored(system_of: SystemOf) -> None:
    service = Service(system_of())
    for path, body in (
        ("/v1/predict", {"images": [base64.b64encode(picture(5)).decode()]}),
        ("/v1/deletions", {"sample_ids": ["s3"]}),
    ):
        content = codecs.BOM_UTF8 + json.dumps(body).encode()
        assert service.http("POST", path, content=content, headers=JSON).status_code in (200, 202), path


@pytest.mark.parametrize(
    ("path", "body", "key"),
    [
        ("/v1/deletions", b'{"sample_ids":["zz1"],"sample_ids":["zz2"]}', "sample_ids"),
        ("/v1/deletions", codecs.BOM_UTF8 + b'{"sample_ids":["s3"],"sample_\\u0069ds":["s3"]}', "sample_ids"),
        ("/v1/deletions", '{"sample_ids":["s3"],"sample_ids":["s3"]}'.encode("utf-16"), "sample_ids"),
        ("/v1/deletions", b'{"sample_ids":["s3"],"deadline":null,"deadline":null}', "deadline"),
        ("/v1/deletions", b'{"sample_ids":[{"a":1,"a":2}]}', "a"),
        ("/v1/predict", b'{"images":["AAAA"],"images":["AAAA"]}', "images"),
        ("/v1/predict", b'{"images":["AAAA"],"specialist_weight":1,"specialist_weight":0}', "specialist_weight"),
    ],
)
@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8", "application/vnd.x+json"])
def test_the_error_for_a_repeated_key_names_it_and_nothing_is_accepted(
    system_of: SystemOf, path: str, body: bytes, key: str, kind: str
) -> None:
    service = Service(system_of())
    answer = service.http("POST", path, content=body, headers={"content-type": kind})
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:lmeraser:problem:invalid-request")
    assert f"the key {key!r} appears twice" in answer.json()["detail"]
    assert service.coordinator.coordinator.recent_deletions() == []


def test_deletions_above_the_rate_limit_are_told_when_to_retry(system_of: SystemOf) -> None:
    service = Service(system_of())
    answers = [service.http("POST", "/v1/deletions", json={"sample_ids": [f"no {n}"]}) for n in range(101)]
    assert [answer.status_code for answer in answers] == [202] * 100 + [429]
    assert answers[-1].headers["retry-after"] == "10"


@pytest.mark.parametrize("coding", ["gzip", "br", "gzip, identity", "GZIP"])
def test_a_compressed_body_gets_415_with_what_is_allowed(system_of: SystemOf, coding: str) -> None:
    service = Service(system_of())
    for path in ("/v1/predict", "/v1/deletions"):
        body = gzip.compress(b'{"sample_ids": ["s3"]}')
        answer = service.http("POST", path, content=body, headers={**JSON, "content-encoding": coding})
        assert (answer.status_code, answer.headers["accept-encoding"]) == (415, "identity")
        assert "send the body uncompressed" in answer.json()["detail"]
    plain = service.http("POST", "/v1/deletions", json={"sample_ids": ["s3"]}, headers={"content-encoding": "identity"})
    assert plain.status_code == 202


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/openapi.json", "/v1/commit", "/v1/deletions", *PAGES])
def test_head_is_get_without_the_body(system_of: SystemOf, path: str) -> None:
    service = Service(system_of())
    get, head = service.http("GET", path), service.http("HEAD", path)
    assert (head.status_code, head.content) == (200, b"")
    assert {**head.headers, "x-request-id": ""} == {**get.headers, "x-request-id": ""}
    assert service.http("HEAD", "/v1/nothing").status_code == 404
    assert service.http("HEAD", "/v1/predict").status_code == 405


def test_answers_are_not_cached_and_their_types_not_guessed(system_of: SystemOf) -> None:
    service = Service(system_of())
    for path in ("/healthz", "/v1/commit", "/v1/deletions", "/v1/nothing", "/openapi.json", *PAGES):
        answer = service.http("GET", path)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == ("no-cache" if path in PAGES else "no-store"), path


def test_pages_load_nothing_from_elsewhere(system_of: SystemOf) -> None:
    service = Service(system_of())
    for path in PAGES:
        answer = service.http("GET", path)
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert not {word for words in policy.values() for word in words.split()} - {
            "'none'",
            "'self'",
            "blob:",
            "data:",
        }
    for path in ("/", "/docs"):
        text = service.http("GET", path).text
        assert "//" not in text and 'src="/' not in text and 'href="/' not in text
    assert service.http("GET", "/redoc").status_code == 404


def test_addresses_are_right_behind_a_proxy_with_a_path_prefix(system_of: SystemOf) -> None:
    service = Service(system_of())
    accepted = service.http("POST", "/v1/deletions", json={"sample_ids": ["s3"]})
    seen_from = "https://api.example/lm/v1/deletions"
    deletion = f"https://api.example/lm/v1/deletions/{accepted.json()['id']}"
    assert urljoin(seen_from, accepted.headers["location"]) == deletion
    for path, query in (("/v1/predict/", "?a=/b/"), ("/v1/deletions/x/retry/", ""), ("/v1/predict/", "")):
        answer = service.http("POST", f"{path}{query}", json={})
        assert answer.status_code == 307
        assert urljoin(f"https://api.example/lm{path}", answer.headers["location"]) == (
            f"https://api.example/lm{path.rstrip('/')}{query}"
        )
    (server,) = service.http("GET", "/openapi.json").json()["servers"]
    assert urljoin("https://api.example/lm/openapi.json", server["url"]) == "https://api.example/lm/"


def test_when_the_proxy_names_requests_the_replica_does_not(system_of: SystemOf) -> None:
    service = Service(system_of())
    given = {"x-request-id": "mine-17"}
    named = service.http("GET", "/v1/deletions/none", headers=given)
    assert (named.headers.get_list("x-request-id"), named.json()["request_id"]) == (["mine-17"], "mine-17")
    keys = ApiKeys(service.system.keys)
    service.transport.app = create_app(service.replica, service.coordinator, keys, names_requests=False)
    behind = service.http("GET", "/v1/deletions/none", headers=given)
    assert ("x-request-id" in behind.headers, behind.json()["request_id"]) == (False, "mine-17")


@pytest.mark.parametrize(
    "deadline",
    [
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "2030-01-01T00:00:00",
        "2030-01-01",
        "soon",
        "",
        "12345",
        "1893456000.5",
        12345,
        1893456000.5,
        True,
    ],
)
def test_a_deadline_that_is_not_a_time_with_an_offset_is_refused(system_of: SystemOf, deadline: Any) -> None:
    service = Service(system_of())
    answer = service.http("POST", "/v1/deletions", json={"sample_ids": ["s3"], "deadline": deadline})
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:lmeraser:problem:invalid-request")
    assert service.coordinator.coordinator.recent_deletions() == []


@pytest.mark.parametrize("deadline", ["0001-01-01T00:00:00-14:00", "9999-12-31T23:59:59+14:00"])
def test_the_first_and_the_last_possible_deadline_are_accepted(system_of: SystemOf, deadline: str) -> None:
    answer = Service(system_of()).http("POST", "/v1/deletions", json={"sample_ids": ["s3"], "deadline": deadline})
    assert answer.status_code == 202


@pytest.mark.parametrize("kind", [RuntimeError, NotImplementedError, AttributeError, MemoryError])
def test_any_exception_while_decoding_an_image_is_that_images_error(
    system_of: SystemOf, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    service = Service(system_of())
    damaged = picture(2)
    opened = Image.open

    def open_or_break(file: Any, *arguments: Any, **more: Any) -> Any:
        content = file.getvalue()
        if content == damaged:
            raise kind("Failed to decode image")
        return opened(file, *arguments, **more)

    monkeypatch.setattr(Image, "open", open_or_break)
    images = [base64.b64encode(data).decode() for data in (picture(1), damaged, picture(3))]
    answer = service.http("POST", "/v1/predict", json={"images": images})
    assert answer.status_code == 200
    first, failed, last = answer.json()["predictions"]
    assert "label" in first and "label" in last
    assert failed["error"]["type"] == "urn:lmeraser:problem:undecodable-image"
