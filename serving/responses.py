"""What the routes of several files have in common: parameters of lists, and the problems that they describe."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query

from lmeraser.paging import MAX_LIMIT
from serving.schemas import Problem

Responses = dict[int | str, dict[str, Any]]
NOT_FOUND: Responses = {404: {"model": Problem}}
CONFLICT: Responses = {409: {"model": Problem}}
# Not JSON, not in time, too long, of an unsupported type.
BODY_PROBLEMS: Responses = {status: {"model": Problem} for status in (400, 408, 413, 415)}
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Most items on the page.")]
NextCursor = Annotated[str | None, Query(description="`next_cursor` of the previous page; absent for the first one.")]
