"""Previews over HTTP: what they answer, and what a deletion that names one is answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from direct_service import Service
from small_system import System

from lmeraser.errors import ServiceError
from serving.api_keys import create_api_key

SystemOf = Callable[..., System]
BODY: dict[str, Any] = {"sample_ids": ["s3", "nowhere"], "subject_ids": ["u7"]}


@pytest.fixture
def service(system_of: SystemOf) -> Service:
    return Service(system_of("minute", 24))


def test_a_preview_and_the_deletion_that_names_it(service: Service) -> None:
    answer = service.http("POST", "/v1/deletions/preview", json={**BODY, "show_ids": True})
    preview = answer.json()
    assert (answer.status_code, preview["rows"], preview["unknown_ids"]) == (200, 2, ["nowhere"])
    assert preview["sample_ids"] == ["s3", "s7"]
    assert service.http("GET", "/v1/deletions").json()["deletions"] == []
    accepted = service.http("POST", "/v1/deletions", json={**BODY, "preview": preview["token"]})
    assert (accepted.status_code, accepted.json()["as_previewed"]) == (202, None)
    service.coordinator.finish()
    shown = service.http("GET", f"/v1/deletions/{accepted.json()['id']}").json()
    assert (shown["as_previewed"], shown["rows"]) == (True, 2)


def test_a_stale_preview_is_a_conflict_and_begins_nothing(service: Service) -> None:
    preview = service.client(lambda client: client.preview(subject_ids=["u7"]))
    service.http("POST", "/v1/deletions", json={"sample_ids": ["s9"]})
    service.coordinator.finish()
    answer = service.http("POST", "/v1/deletions", json={"subject_ids": ["u7"], "preview": preview.token})
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (409, "urn:lmeraser:problem:stale-preview")
    assert "nothing was begun; preview again" in problem["detail"]
    assert len(service.http("GET", "/v1/deletions").json()["deletions"]) == 1
    with pytest.raises(ServiceError, match="Stale preview") as caught:
        service.client(lambda client: client.delete(subject_ids=["u7"], preview=preview.token))
    assert caught.value.status == 409


def test_a_forged_preview_is_an_invalid_request(service: Service) -> None:
    answer = service.http("POST", "/v1/deletions", json={**BODY, "preview": "7-aa-bb"})
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:lmeraser:problem:invalid-request")


@pytest.mark.parametrize("body", [{}, {"sample_ids": [""]}, {**BODY, "preview": "x"}, {**BODY, "deadline": None}])
def test_a_preview_of_what_could_not_be_deleted_is_refused(service: Service, body: dict[str, Any]) -> None:
    assert service.http("POST", "/v1/deletions/preview", json=body).status_code == 422


def test_a_preview_needs_the_scope_of_deletions(service: Service) -> None:
    _, secret = create_api_key(service.system.keys, ["predict"])
    answer = service.http("POST", "/v1/deletions/preview", json=BODY, headers={"Authorization": f"Bearer {secret}"})
    assert (answer.status_code, "scope 'delete' is needed" in answer.json()["detail"]) == (403, True)
