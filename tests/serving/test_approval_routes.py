"""Approval over HTTP: which keys may decide, and what the others are answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from direct_service import Service
from small_system import System

from lmeraser.errors import ConfigError
from serving.api_keys import create_api_key

SystemOf = Callable[..., System]
BODY: dict[str, Any] = {"sample_ids": ["s3"], "subject_ids": ["u7"]}


@pytest.fixture
def service(system_of: SystemOf) -> Service:
    service = Service(system_of("minute", 24))
    service.coordinator.coordinator.approvals.require(True)
    return service


def key(service: Service, name: str, *scopes: str) -> dict[str, str]:
    """The headers of a new key."""
    return {"Authorization": f"Bearer {create_api_key(service.system.keys, scopes, name)[1]}"}


def kind(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"].rpartition(":")[2]


def test_an_officer_previews_and_approves_what_a_clerk_requested(service: Service) -> None:
    clerk, officer = key(service, "clerk", "delete"), key(service, "officer", "approve")
    waiting = service.http("POST", "/v1/deletions", json=BODY, headers=clerk)
    assert (waiting.status_code, waiting.json()["status"], waiting.json()["requested_by"]) == (
        202,
        "requested",
        "clerk",
    )
    path = f"/v1/deletions/{waiting.json()['id']}"
    listed = service.http("GET", "/v1/deletions?status=requested", headers=officer).json()["deletions"]
    assert [each["id"] for each in listed] == [waiting.json()["id"]]
    preview = service.http("POST", f"{path}/preview?show_ids=true", headers=officer).json()
    assert preview["sample_ids"] == ["s3", "s7"]
    approved = service.http("POST", f"{path}/approve", json={"preview": preview["token"]}, headers=officer)
    assert (approved.status_code, approved.json()["decided_by"]) == (202, "officer")
    service.coordinator.finish()
    assert service.http("GET", path, headers=clerk).json()["as_previewed"]
    again = service.http("POST", f"{path}/approve", json={}, headers=officer)
    assert kind(again) == (409, "already-decided")


def test_a_requester_cannot_approve_even_with_another_key_of_the_same_name(service: Service) -> None:
    both, second = key(service, "clerk", "delete", "approve"), key(service, "Clerk", "approve", "admin")
    path = f"/v1/deletions/{service.http('POST', '/v1/deletions', json=BODY, headers=both).json()['id']}"
    for headers in (both, second):
        assert kind(service.http("POST", f"{path}/approve", json={}, headers=headers)) == (403, "self-approval")
    assert service.http("GET", path, headers=both).json()["status"] == "requested"


def test_a_key_without_the_scope_decides_nothing(service: Service) -> None:
    clerk = key(service, "clerk", "delete")
    path = f"/v1/deletions/{service.http('POST', '/v1/deletions', json=BODY, headers=clerk).json()['id']}"
    for headers in (clerk, key(service, "reader", "read"), key(service, "holder", "hold", "predict")):
        for verb, body in (("approve", {}), ("decline", {"reason": "no"})):
            answer = service.http("POST", f"{path}/{verb}", json=body, headers=headers)
            assert answer.status_code == 403 and "scope 'approve' is needed" in answer.json()["detail"]
    assert service.http("GET", path, headers=clerk).json()["status"] == "requested"


def test_a_reader_reads_and_an_officer_requests_nothing(service: Service) -> None:
    reader, officer = key(service, "reader", "read"), key(service, "officer", "approve")
    assert service.http("GET", "/v1/deletions", headers=reader).status_code == 200
    assert service.http("GET", "/v1/commit", headers=reader).status_code == 200
    for headers in (reader, officer):
        assert service.http("POST", "/v1/deletions", json=BODY, headers=headers).status_code == 403
    refused = service.http("GET", "/v1/deletions", headers=key(service, "shop", "predict"))
    assert "the scope 'read', 'delete' or 'approve' is needed" in refused.json()["detail"]


def test_a_declined_deletion_says_why(service: Service) -> None:
    clerk, officer = key(service, "clerk", "delete"), key(service, "officer", "approve")
    path = f"/v1/deletions/{service.http('POST', '/v1/deletions', json=BODY, headers=clerk).json()['id']}"
    assert service.http("POST", f"{path}/decline", json={}, headers=officer).status_code == 422
    assert service.http("POST", f"{path}/decline", json={"reason": " "}, headers=officer).status_code == 422
    declined = service.http("POST", f"{path}/decline", json={"reason": "a duplicate"}, headers=officer).json()
    assert (declined["status"], declined["reason"], declined["decided_by"]) == ("declined", "a duplicate", "officer")
    assert kind(service.http("POST", f"{path}/approve", json={}, headers=officer)) == (409, "already-decided")
    assert service.http("GET", f"{path}/receipt", headers=clerk).status_code == 503


def test_while_there_are_no_keys_nobody_can_approve(service: Service) -> None:
    waiting = service.http("POST", "/v1/deletions", json=BODY).json()
    assert waiting["requested_by"] == "local"
    answer = service.http("POST", f"/v1/deletions/{waiting['id']}/approve", json={})
    assert kind(answer) == (403, "self-approval")


def test_a_key_that_approves_needs_a_name(service: Service) -> None:
    with pytest.raises(ConfigError, match="a key with the scope approve needs a name"):
        create_api_key(service.system.keys, ["approve"], " ")


def test_a_nameless_key_is_known_by_its_id(service: Service) -> None:
    stored, secret = create_api_key(service.system.keys, ["delete"])
    answer = service.http("POST", "/v1/deletions", json=BODY, headers={"Authorization": f"Bearer {secret}"})
    assert answer.json()["requested_by"] == f"key {stored.id}"
