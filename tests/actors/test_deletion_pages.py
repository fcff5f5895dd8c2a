"""The list of deletions: each once, newest first, whatever is accepted and archived while somebody reads it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from counted_store import CountedStore
from small_system import System, finish

from actors.checkpoints import opened_history
from actors.coordinator import Coordinator
from actors.deletion_pages import deletion_page
from lmeraser.deletion import Deletion, DeletionRequest, Status
from lmeraser.errors import RequestError
from lmeraser.paging import Page

SystemOf = Callable[..., System]


def accepted(archived: System) -> list[str]:
    """The ids of all deletions in the order of their acceptance, from their receipts."""
    receipts = [json.loads(archived.store.get(name)) for name in archived.store.names("receipts/")]
    return list(dict.fromkeys(each["deletion"] for each in sorted(receipts, key=lambda each: each["accepted_at"])))


def pages(coordinator: Coordinator, limit: int, status: Status | None = None) -> Iterator[Page[Deletion]]:
    page = coordinator.deletions(limit, None, status)
    yield page
    while page.next_cursor is not None:
        page = coordinator.deletions(limit, page.next_cursor, status)
        yield page


def ids(page: Page[Deletion]) -> list[str]:
    return [deletion.id for deletion in page.items]


@pytest.mark.parametrize("limit", range(1, 10))
def test_pages_of_any_size_hold_each_deletion_once_the_newest_first(archived: System, limit: int) -> None:
    coordinator = archived.coordinator()
    assert 0 < len(coordinator.recent_deletions()) < 8
    listed = list(pages(coordinator, limit))
    assert [name for page in listed for name in ids(page)] == accepted(archived)[::-1]
    assert all(len(page.items) == limit for page in listed[:-1])
    assert 0 < len(listed[-1].items) <= limit


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_what_is_accepted_and_archived_between_two_pages_changes_nothing(archived: System, limit: int) -> None:
    before = accepted(archived)
    coordinator, listed = archived.coordinator(), []
    waiting = coordinator.delete(DeletionRequest(("s20",), idempotency_key="kept")).id
    finish(coordinator)
    for number, page in enumerate(pages(coordinator, limit), 8):
        listed += ids(page)
        if number < 20:
            coordinator.delete(DeletionRequest((f"s{number}",)))
            finish(coordinator)
    assert coordinator.status().archived > 8
    assert listed == [waiting, *before[::-1]]


def test_a_page_reads_the_archives_that_it_shows_and_no_other(archived: System) -> None:
    for name in ("s9", "s10"):
        archived.coordinator().delete(DeletionRequest((name,)))
    store = CountedStore(Path(archived.store.uri))
    log, history = opened_history(store)
    history.replay(log.advance())
    assert len(store.names("archive/")) >= 4

    def archives_read(limit: int, status: Status | None = None, cursor: str | None = None) -> tuple[int, str | None]:
        store.read.clear()
        recent = history.deletions.values()
        page = deletion_page(store, history.archive, recent, limit, cursor, status)
        return sum(name.startswith("archive/") for name in store.read), page.next_cursor

    recent = len(history.deletions)
    assert archives_read(recent - 1)[0] == 0
    assert archives_read(100, "failed")[0] == 0
    # Each archive holds one deletion or two. One more than the page needs says whether there is a next page, and the
    # archive of the last entry of the page before may be exhausted.
    count, cursor = archives_read(recent + 1)
    assert 1 <= count <= 2
    assert archives_read(1, cursor=cursor)[0] <= 3
    assert archives_read(100)[0] == len(store.names("archive/"))


def test_only_deletions_with_the_status_are_listed(archived: System) -> None:
    coordinator = archived.coordinator()
    waiting = [coordinator.delete(DeletionRequest((name,))).id for name in ("s9", "s10", "s11")]
    listed = [name for page in pages(coordinator, 2, "accepted") for name in ids(page)]
    assert sorted(listed) == sorted(waiting)
    assert len([name for page in pages(coordinator, 3, "completed") for name in ids(page)]) == 8
    assert coordinator.deletions(5, None, "failed") == Page(())


def as_cursor(*position: str | int | None) -> str:
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode()


@pytest.mark.parametrize(
    "cursor",
    [
        *("", "none", "ä", "x" * 5000, as_cursor(), as_cursor("cluster", 7, "00ff"), as_cursor("recent", 0)),
        *(as_cursor("recent", "0", "", ""), as_cursor("recent", True, "", ""), as_cursor("recent", 10**9, "", "")),
        *(as_cursor("archived", 1, 0), as_cursor("archived", -1, 0), as_cursor("archived", 10**9, 0)),
        base64.b64encode(b"7").decode(),
    ],
)
def test_a_cursor_of_no_page_is_refused(archived: System, cursor: str) -> None:
    with pytest.raises(RequestError, match="is not one of this list; allowed is next_cursor of its previous page"):
        archived.coordinator().deletions(5, cursor)


@pytest.mark.parametrize("limit", [0, -1, 1001])
def test_a_limit_out_of_range_is_refused(archived: System, limit: int) -> None:
    with pytest.raises(RequestError, match=f"limit is {limit}; allowed are whole numbers from 1 to 1000"):
        archived.coordinator().deletions(limit)
