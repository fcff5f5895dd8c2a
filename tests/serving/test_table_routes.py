"""Tables of ids over HTTP: as the body or as a file of a form; and what became of ids."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from direct_service import Service
from small_system import System

from serving.api_keys import create_api_key

SystemOf = Callable[..., System]
TABLE = b"\xef\xbb\xbfsample_id,why\r\ns3,art. 17\r\n0042,x\r\ns5,y\r\n"


@pytest.fixture
def service(system_of: SystemOf) -> Service:
    return Service(system_of("minute", 24))


def sent(service: Service, content: bytes, content_type: str = "text/csv", query: str = "") -> Any:
    path = f"/v1/deletions/table{query}"
    return service.http("POST", path, content=content, headers={"Content-Type": content_type})


def parquet(**columns: list[Any]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def test_the_ids_of_a_table_are_deleted_and_their_outcomes_are_told(service: Service) -> None:
    answer = sent(service, TABLE)
    assert (answer.status_code, answer.json()["ids"]) == (202, 3)
    (deletion,) = answer.json()["deletions"]
    assert (deletion["rows"], deletion["unknown_ids"], deletion["requested_by"]) == (2, ["0042"], "local")
    service.coordinator.finish()
    asked = {"sample_ids": ["s3", "0042", "s9"], "deletions": [deletion["id"]]}
    outcomes = service.http("POST", "/v1/deletions/outcomes", json=asked).json()["outcomes"]
    assert [each["outcome"] for each in outcomes] == ["erased", "unknown", "not requested"]
    receipt = service.http("GET", f"/v1/deletions/{deletion['id']}/receipt").json()
    assert outcomes[0]["keyed_hash"] in receipt["samples"]


@pytest.mark.parametrize(
    ("content", "content_type", "query"),
    [
        (b'{"id": "u7"}\n{"id": "u8"}', "application/jsonl", ""),
        (b'{"person": "u7"}\n{"person": "u8"}', "application/x-ndjson", "&column=person"),
        (parquet(a=["u7", "u8"], b=[1, 2]), "application/vnd.apache.parquet", "&column=a"),
        (b"subject_id,sample_id\nu7,s1\nu8,s2", "text/csv; charset=utf-8", "&column=subject_id"),
    ],
)
def test_every_format_names_subjects_too(service: Service, content: bytes, content_type: str, query: str) -> None:
    answer = sent(service, content, content_type, f"?of=subjects{query}")
    assert [each["rows"] for each in answer.json()["deletions"]] == [2]


def test_a_file_of_a_form_says_by_its_name_what_it_is(service: Service) -> None:
    answer = service.http("POST", "/v1/deletions/table", files={"table": ("gone.CSV", TABLE)})
    assert (answer.status_code, answer.json()["ids"]) == (202, 3)
    for files in ({"table": ("gone.xlsx", TABLE)}, {"other": ("gone.csv", TABLE)}):
        assert service.http("POST", "/v1/deletions/table", files=files).status_code == 422


def test_a_malformed_line_is_named_and_nothing_is_begun(service: Service) -> None:
    answer = sent(service, b"id,why\ns3,x\n,y\ns5\n")
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:lmeraser:problem:invalid-request")
    for part in ("2 line(s)", "line 3 has an id that is empty", "line 4 has 1 field(s)", "nothing was begun"):
        assert part in answer.json()["detail"]
    assert service.http("GET", "/v1/deletions").json()["deletions"] == []
    assert sent(service, TABLE, "text/plain").status_code == 415


def test_large_tables_become_several_deletions_once(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.table_routes.MAX_IDS", 2)
    headers = {"Content-Type": "text/csv", "Idempotency-Key": "ticket-17"}
    first, again = (
        service.http("POST", "/v1/deletions/table", content=TABLE, headers=headers).json()["deletions"]
        for _ in range(2)
    )
    assert [each["rows"] for each in first] == [1, 1]
    assert [each["id"] for each in first] == [each["id"] for each in again]


def test_too_many_ids_are_refused(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmeraser.id_tables.MAX_TABLE_IDS", 2)
    answer = sent(service, TABLE)
    assert (answer.status_code, "more than 2 ids: divide it; nothing was begun" in answer.json()["detail"]) == (
        422,
        True,
    )


def test_a_table_needs_the_scope_of_deletions(service: Service) -> None:
    _, secret = create_api_key(service.system.keys, ["read"])
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "text/csv"}
    assert service.http("POST", "/v1/deletions/table", content=TABLE, headers=headers).status_code == 403
    del headers["Content-Type"]
    assert (
        service.http("POST", "/v1/deletions/outcomes", json={"sample_ids": ["s3"]}, headers=headers).status_code == 200
    )
