"""Lists that are answered one page at a time."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

from lmeraser.errors import RequestError

T = TypeVar("T")

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000


@dataclass(frozen=True)
class Page(Generic[T]):
    """A part of a list.

    Attributes:
        items: in the order of the list.
        next_cursor: asks for the page that follows; None on the last page. Opaque: only the list that gave it reads it.
    """

    items: tuple[T, ...]
    next_cursor: str | None = None


def page_of(items: Iterable[T], limit: int, position: Callable[[T], tuple[str | int, ...]]) -> Page[T]:
    """The first items, of which no more than one beyond the page is taken.

    Args:
        items: what follows the previous page.
        limit: most items on the page.
        position: where an item stands in the list, for the cursor.
    """
    taken = list(islice(items, limit + 1))
    page = tuple(taken[:limit])
    return Page(page, _cursor(position(page[-1])) if len(taken) > limit else None)


def checked_limit(limit: int) -> int:
    """The limit. Raises RequestError when it is not a whole number that is allowed."""
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_LIMIT:
        raise RequestError(f"limit is {limit!r}; allowed are whole numbers from 1 to {MAX_LIMIT}")
    return limit


def position_of(cursor: str, shapes: Mapping[str, tuple[type, ...]]) -> tuple[Any, ...]:
    """The position that a cursor stands for.

    Args:
        cursor: of :class:`Page`.
        shapes: what may follow the first element of a position, by that element.

    Raises:
        RequestError: when it is not a cursor of this list.
    """
    try:
        name, *rest = json.loads(base64.urlsafe_b64decode(cursor.encode("ascii")))
        if tuple(map(type, rest)) == shapes[name]:
            return name, *rest
    except (ValueError, TypeError, KeyError):
        pass
    raise invalid_cursor(cursor)


def invalid_cursor(cursor: str) -> RequestError:
    """The error for a cursor that the list did not give, or that it no longer understands."""
    shown = cursor if len(cursor) <= 80 else f"{cursor[:80]}…"
    return RequestError(f"the cursor {shown!r} is not one of this list; allowed is next_cursor of its previous page")


def _cursor(position: tuple[str | int, ...]) -> str:
    return base64.urlsafe_b64encode(json.dumps(position, separators=(",", ":")).encode()).decode()
