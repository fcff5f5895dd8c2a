"""What the service logs of a request: its id and route, never what the caller wrote."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

import pytest
from direct_service import Service
from small_system import System

SystemOf = Callable[..., System]


def test_each_request_is_a_line_with_its_id_and_its_route(
    system_of: SystemOf, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service(system_of())
    with caplog.at_level(logging.INFO, "serving"):
        accepted = service.http("POST", "/v1/deletions", json={"sample_ids": ["s3"]}, headers={"X-Request-ID": "r1"})
        service.http("GET", "/v1/deletions/u41?cursor=s3", headers={"X-Request-ID": "r2"})
        service.http("GET", "/u41/s3", headers={"X-Request-ID": "r3"})
    lines = [re.sub(r"[0-9.]+ s$", "T s", line) for line in caplog.messages if line.startswith("request r")]
    assert lines == [
        f"request r1: deletion {accepted.json()['id']} is accepted",
        "request r1: POST /v1/deletions, 202 in T s",
        "request r2: GET /v1/deletions/{deletion_id}, 404 in T s",
        "request r3: GET no route, 404 in T s",
    ]
    assert not re.search(r"\b(s3|u41)\b", caplog.text)


def test_a_refusal_that_every_request_gets_is_no_warning(system_of: SystemOf, caplog: pytest.LogCaptureFixture) -> None:
    service = Service(system_of(rows=0))
    with caplog.at_level(logging.INFO, "serving"):
        assert service.http("GET", "/readyz").status_code == 503
    assert any("NotReadyError" in line for line in caplog.messages)
    assert {record.levelname for record in caplog.records} == {"INFO"}
