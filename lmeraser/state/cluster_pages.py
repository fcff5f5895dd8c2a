"""The list of a commit's prompt clusters, one page at a time."""

from __future__ import annotations

from collections.abc import Iterable

from lmeraser.paging import Page, checked_limit, page_of, position_of
from lmeraser.state.cluster_entry import ClusterEntry

_LISTED = "cluster"


def cluster_page(clusters: Iterable[ClusterEntry], limit: int, cursor: str | None = None) -> Page[ClusterEntry]:
    """One page of the clusters, largest first.

    The cursor names the last cluster's size and key, and so a page follows another one under any commit.

    Raises:
        RequestError: when the limit is out of range, or the cursor is not one of this list.
    """
    rest = sorted(clusters, key=_rank)
    if cursor is not None:
        _, rows, key = position_of(cursor, {_LISTED: (int, str)})
        rest = [entry for entry in rest if _rank(entry) > (-rows, key)]
    return page_of(rest, checked_limit(limit), lambda entry: (_LISTED, entry.rows, entry.key))


def _rank(entry: ClusterEntry) -> tuple[int, str]:
    return -entry.rows, entry.key
