"""The arguments of the client's calls, checked before anything is sent."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from numbers import Real
from typing import get_args
from urllib.parse import urlencode

import numpy as np

from lmeraser.deletion import Status
from lmeraser.errors import RequestError
from lmeraser.ids import fault_of_id
from lmeraser.paging import checked_limit

# Sent in a header: printable ASCII without a space at either end.
_IDEMPOTENCY_KEY = re.compile(r"(?! )[ -~]{1,255}(?<! )")
_DELETION_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


def checked_ids(name: str, ids: Iterable[str | int]) -> list[str]:
    """Ids as text; integers become their digits, as in an ingest.

    Raises:
        RequestError: when they are not a list, or an id is neither text nor an integer, or is malformed.
    """
    if isinstance(ids, str):
        raise RequestError(f"{name} is the single string {ids!r}; give a list of ids")
    if isinstance(ids, bytes | bytearray | memoryview | Mapping) or not isinstance(ids, Iterable):
        raise RequestError(f"{name} has the type {type(ids).__name__}; give a list of ids")
    texts = []
    for identifier in ids:
        if isinstance(identifier, bool) or not isinstance(identifier, str | int | np.integer):
            kind = type(identifier).__name__
            raise RequestError(f"{name} holds {identifier!r} of the type {kind}; allowed are str and int")
        text = str(identifier)
        if (fault := fault_of_id(text)) is not None:
            raise RequestError(f"an id of {name} {fault}")
        texts.append(text)
    return texts


def checked_token(token: str) -> str:
    """The token of a preview. Raises RequestError when it is not text."""
    if not isinstance(token, str):
        raise RequestError(f"preview is {token!r}; allowed is the `token` of a preview, or None")
    return token


def checked_status(status: Status | None) -> Status | None:
    """The status. Raises RequestError when there is no such one."""
    if status is not None and status not in get_args(Status):
        raise RequestError(f"status is {status!r}; allowed are {', '.join(get_args(Status))}, or None")
    return status


def page_query(limit: int, cursor: str | None, status: str | None = None) -> str:
    """The query that asks for a page of a list. Raises RequestError when the limit or the cursor cannot be one."""
    if not isinstance(cursor, str | None):
        raise RequestError(f"the cursor is {cursor!r}; allowed is next_cursor of the previous page, or None")
    query = {"limit": checked_limit(limit), "cursor": cursor, "status": status}
    return urlencode({name: value for name, value in query.items() if value is not None})


def checked_weight(weight: float) -> float:
    """The share of the specialist. Raises RequestError when it is not a number from 0 to 1."""
    if isinstance(weight, bool) or not isinstance(weight, Real) or not 0 <= weight <= 1:
        raise RequestError(f"specialist_weight is {weight!r}; allowed are numbers from 0 to 1, or None")
    return float(weight)


def checked_deadline(deadline: datetime) -> str:
    """The deadline as ISO 8601. Raises RequestError when it is not a datetime, or has no offset from UTC."""
    if not isinstance(deadline, datetime):
        raise RequestError(f"the deadline is {deadline!r}; give an aware datetime")
    if deadline.utcoffset() is None:
        raise RequestError(f"the deadline {deadline.isoformat()} has no offset; give an aware datetime")
    return deadline.isoformat()


def checked_idempotency_key(key: str) -> str:
    """The key. Raises RequestError when a header cannot carry it."""
    if not isinstance(key, str) or not _IDEMPOTENCY_KEY.fullmatch(key):
        raise RequestError(
            f"idempotency_key is {key!r}; allowed are 1 to 255 printable ASCII characters without a space at either "
            "end, or None"
        )
    return key


def checked_deletion_id(deletion_id: str) -> str:
    """The id of a deletion. Raises RequestError when it is malformed."""
    if not isinstance(deletion_id, str) or not _DELETION_ID.fullmatch(deletion_id):
        raise RequestError(
            f"the id of a deletion is {deletion_id!r}; allowed are 1 to 128 ASCII letters, digits, - and _: "
            "`delete` and `deletions` return ids"
        )
    return deletion_id
