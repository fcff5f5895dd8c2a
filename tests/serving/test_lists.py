"""Lists over HTTP: pages, cursors, and what is said about those that do not exist."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from direct_service import Service
from small_system import System

SystemOf = Callable[..., System]


def walk(service: Service, path: str, name: str) -> list[list[Any]]:
    """The items of each page of a list."""
    page = service.http("GET", path).json()
    pages = [page[name]]
    while page["next_cursor"] is not None:
        page = service.http("GET", f"{path}&cursor={page['next_cursor']}").json()
        pages.append(page[name])
    return pages


def test_deletions_are_listed_newest_first_one_page_at_a_time(system_of: SystemOf) -> None:
    service = Service(system_of())
    deletions = [service.http("POST", "/v1/deletions", json={"sample_ids": [f"s{n}"]}).json() for n in range(5)]
    newest_first = [each["id"] for each in sorted(deletions, key=lambda each: (each["accepted_at"], each["id"]))][::-1]
    pages = walk(service, "/v1/deletions?limit=2", "deletions")
    assert [[each["id"] for each in page] for page in pages] == [newest_first[:2], newest_first[2:4], newest_first[4:]]
    whole = service.http("GET", "/v1/deletions?limit=5").json()
    assert ([each["id"] for each in whole["deletions"]], whole["next_cursor"]) == (newest_first, None)
    assert service.http("GET", "/v1/deletions?status=completed").json() == {"deletions": [], "next_cursor": None}
    service.coordinator.finish()
    assert len(service.http("GET", "/v1/deletions?status=completed").json()["deletions"]) == 5


def test_clusters_are_listed_largest_first_one_page_at_a_time(system_of: SystemOf) -> None:
    system = system_of()
    entries = sorted((-entry.rows, entry.key) for entry in system.newest().clusters)
    assert len(entries) > 3
    pages = walk(Service(system), "/v1/clusters?limit=3", "clusters")
    assert [(-each["rows"], each["key"]) for page in pages for each in page] == entries
    assert all(len(page) == 3 for page in pages[:-1])


@pytest.mark.parametrize("path", ["/v1/deletions", "/v1/clusters"])
def test_a_page_that_there_cannot_be_is_a_problem(system_of: SystemOf, path: str) -> None:
    service = Service(system_of())
    for n in range(2):
        service.http("POST", "/v1/deletions", json={"sample_ids": [f"s{n}"]})
    other = {"/v1/deletions": "/v1/clusters", "/v1/clusters": "/v1/deletions"}[path]
    foreign = service.http("GET", f"{other}?limit=1").json()["next_cursor"]
    for wrong in ({"limit": 0}, {"limit": 1001}, {"limit": "x"}, {"cursor": "none"}, {"cursor": foreign}):
        answer = service.http("GET", path, params=wrong)
        assert (answer.status_code, answer.json()["type"]) == (422, "urn:lmeraser:problem:invalid-request"), wrong


def test_a_status_that_there_is_not_is_a_problem(system_of: SystemOf) -> None:
    answer = Service(system_of()).http("GET", "/v1/deletions?status=done")
    assert answer.status_code == 422
    assert "'accepted', 'erased', 'completed' or 'failed'" in answer.json()["detail"]
