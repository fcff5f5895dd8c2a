"""The list of deletions, one page at a time.

The newest come first: those that no checkpoint has archived, by the time of their acceptance, and then the archives,
the newest first. A deletion that took much longer than others is therefore listed with those that were settled when it
was. The first page fixes which archive is the newest of its list, and later pages keep to it: what is archived
meanwhile keeps its place, and what is accepted meanwhile is not in the list. So each deletion is listed once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from actors.checkpoints import archives
from lmeraser.deletion import Deletion, Status
from lmeraser.errors import ObjectMissingError
from lmeraser.paging import Page, checked_limit, invalid_cursor, page_of, position_of
from lmeraser.store import Store

# After an entry that was not archived when the list began: its newest archive, and the entry's acceptance and id.
_RECENT = "recent"
# After an entry of an archive: the number of the archive, and how many of its entries have been listed.
_ARCHIVED = "archived"
_SHAPES: dict[str, tuple[type, ...]] = {_RECENT: (int, str, str), _ARCHIVED: (int, int)}
_Entry = tuple[Deletion, tuple[str | int, ...]]


def deletion_page(
    store: Store,
    archive: int,
    recent: Iterable[Deletion],
    limit: int,
    cursor: str | None = None,
    status: Status | None = None,
) -> Page[Deletion]:
    """One page of the deletions.

    Args:
        store: the store.
        archive: number of the newest archive, 0 if there is none.
        recent: the deletions that are in no archive.
        limit: most deletions on the page.
        cursor: of the previous page; None for the first page.
        status: leaves out the deletions that have another one.

    Raises:
        RequestError: when the limit is out of range, or the cursor is not one of this list.
    """
    kind: str
    newest: int
    rest: list[Any]
    kind, newest, *rest = (_RECENT, archive) if cursor is None else position_of(cursor, _SHAPES)
    if cursor is not None and not 0 <= newest <= archive:
        raise invalid_cursor(cursor)
    # Only completed deletions are archived.
    settled = newest if status in (None, "completed") else 0
    entries: Iterator[_Entry]
    if kind == _RECENT:
        unsettled = _recent(store, archive, recent, newest, tuple(rest))
        entries = chain((entry for entry in unsettled if status in (None, entry[0].status)), _archived(store, settled))
    else:
        entries = _archived(store, settled, *rest)
    try:
        page = page_of(entries, checked_limit(limit), lambda entry: entry[1])
    except ObjectMissingError as error:
        if cursor is None or kind == _RECENT:
            raise
        # Unless an archive was lost, the cursor names one that there never was.
        raise invalid_cursor(cursor) from error
    return Page(tuple(deletion for deletion, _ in page.items), page.next_cursor)


def _recent(
    store: Store, archive: int, recent: Iterable[Deletion], newest: int, after: tuple[str, ...]
) -> Iterator[_Entry]:
    """What was in no archive when the newest one was ``newest``, and follows the entry with this age."""
    archived_since = [each for _, deletions in archives(store, archive, newest) for each in deletions]
    for deletion in sorted([*recent, *archived_since], key=_age, reverse=True):
        if not after or _age(deletion) < after:
            yield deletion, (_RECENT, newest, *_age(deletion))


def _archived(store: Store, newest: int, listed: int = 0) -> Iterator[_Entry]:
    """What is in this archive and the ones before, but for as many entries of the first as have been listed."""
    for number, deletions in archives(store, newest):
        for index, deletion in enumerate(deletions[listed:], listed + 1):
            yield deletion, (_ARCHIVED, number, index)
        listed = 0


def _age(deletion: Deletion) -> tuple[str, str]:
    return deletion.accepted_at, deletion.id
