"""Lists as the client gives them: an iterator that fetches pages, or one page at a time."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest
from mock_service import ACCEPTED, URL, answers

from lmeraser.client.async_client import AsyncClient
from lmeraser.errors import RequestError

PAGES = [
    {"deletions": [{**ACCEPTED, "id": "d3"}, {**ACCEPTED, "id": "d2"}], "next_cursor": "a/b="},
    {"deletions": [{**ACCEPTED, "id": "d1"}], "next_cursor": None},
]


def test_deletions_are_fetched_page_by_page_when_they_are_needed() -> None:
    client, seen = answers(*(httpx2.Response(200, json=page) for page in PAGES))
    deletions = client.deletions(status="accepted")
    assert seen == []
    assert [next(deletions).id, next(deletions).id] == ["d3", "d2"]
    assert len(seen) == 1
    assert [deletion.id for deletion in deletions] == ["d1"]
    asked = [dict(request.url.params) for request in seen]
    assert asked == [{"limit": "1000", "status": "accepted"}, {"limit": "1000", "status": "accepted", "cursor": "a/b="}]


def test_the_async_client_fetches_pages_in_turn() -> None:
    replies = iter(httpx2.Response(200, json=page) for page in PAGES)

    async def ids() -> list[str]:
        async with AsyncClient(URL, transport=httpx2.MockTransport(lambda _: next(replies))) as client:
            return [deletion.id async for deletion in client.deletions()]

    assert asyncio.run(ids()) == ["d3", "d2", "d1"]


def test_one_page_comes_with_the_cursor_of_the_next() -> None:
    cluster = {"key": "00ff", "rows": 9, "anchors": 2, "specialist": False, "state": "awaits tuning"}
    client, seen = answers(
        httpx2.Response(200, json=PAGES[0]),
        httpx2.Response(200, json={"commit": 7, "clusters": [cluster], "next_cursor": "c"}),
    )
    page = client.deletions_page(limit=2)
    assert ([deletion.id for deletion in page.items], page.next_cursor) == (["d3", "d2"], "a/b=")
    assert client.clusters_page(limit=1, cursor="b").next_cursor == "c"
    assert [dict(request.url.params) for request in seen] == [{"limit": "2"}, {"limit": "1", "cursor": "b"}]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"limit": 0}, "limit is 0; allowed are whole numbers from 1 to 1000"),
        ({"limit": 1001}, "limit is 1001"),
        ({"limit": True}, "limit is True"),
        ({"limit": "5"}, "limit is '5'"),
        ({"cursor": 7}, "the cursor is 7"),
        ({"status": "done"}, "status is 'done'; allowed are requested, declined, accepted, erased"),
    ],
)
def test_a_page_that_there_cannot_be_is_refused_before_anything_is_sent(wrong: dict[str, Any], message: str) -> None:
    client, seen = answers()
    with pytest.raises(RequestError, match=message):
        client.deletions_page(**wrong)
    assert seen == []


def test_an_unknown_status_is_refused_by_the_call_and_not_by_the_first_item() -> None:
    unknown: Any = "done"
    with pytest.raises(RequestError):
        answers()[0].deletions(status=unknown)
