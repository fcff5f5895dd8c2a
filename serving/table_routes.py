"""Tables of ids over HTTP: an upload whose ids are deleted, and what became of ids."""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from lmeraser.deletion import MAX_IDS, DeletionRequest
from lmeraser.errors import DataError, RequestError
from lmeraser.id_tables import CONTENT_TYPES, TableFormat, format_of, read_ids
from serving.access import caller_of, guarded_router
from serving.api_keys import ApiKeys
from serving.coordinator_proxy import Coordinator
from serving.deletion_routes import MAX_DELETION_BYTES
from serving.problems import request_id_of
from serving.responses import BODY_PROBLEMS, CONFLICT
from serving.schemas import OutcomesAnswer, OutcomesRequest, TableAnswer

logger = logging.getLogger(__name__)

_FORMATS: dict[str, TableFormat] = {
    **{content_type: table_format for table_format, content_type in CONTENT_TYPES.items()},
    "application/x-ndjson": "jsonl",
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FORM = {"schema": {"type": "object", "required": ["table"], "properties": {"table": _BINARY["schema"]}}}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {**dict.fromkeys(_FORMATS, _BINARY), "multipart/form-data": _FORM},
    }
}


def table_routes(coordinator: Coordinator, keys: ApiKeys) -> APIRouter:
    """The routes of tables."""
    router = APIRouter()
    router.include_router(_uploads(coordinator, guarded_router(keys, "delete", _max_bytes)))
    router.include_router(_outcomes(coordinator, guarded_router(keys, ("read", "delete", "approve"), _max_bytes)))
    return router


def _uploads(coordinator: Coordinator, router: APIRouter) -> APIRouter:
    @router.post("/v1/deletions/table", status_code=202, responses=BODY_PROBLEMS | CONFLICT, openapi_extra=_BODY)
    async def delete_table(
        request: Request,
        of: Annotated[Literal["samples", "subjects"], Query(description="What the ids are those of.")] = "samples",
        column: Annotated[str | None, Query(description="The column of the ids.")] = None,
        idempotency_key: Annotated[str | None, Header(min_length=1, max_length=240)] = None,
    ) -> TableAnswer:
        """Request the deletion of the ids of a table: CSV, JSON lines or Parquet, at most 1,000,000.

        Either the body is the table, or a multipart field `table` whose file name says what it is. If a line is
        malformed, it is named by its number and nothing is begun (422). Each 100,000 ids are a deletion of their own.
        """
        data, table_format = await _table(request)
        try:
            ids = await asyncio.to_thread(read_ids, data, table_format, column)
        except DataError as error:
            raise RequestError(f"{error}; nothing was begun") from error
        deletions = []
        for start in range(0, len(ids), MAX_IDS):
            part = tuple(ids[start : start + MAX_IDS])
            key = None if idempotency_key is None else f"{idempotency_key}/{start}"
            named = {"sample_ids": part} if of == "samples" else {"subject_ids": part}
            asked = DeletionRequest(**named, idempotency_key=key, by=caller_of(request))  # type: ignore[arg-type]
            deletions.append(await coordinator.delete(asked))
        logger.info("request %s: %d deletion(s) of a table", request_id_of(request.scope), len(deletions))
        return TableAnswer(ids=len(ids), deletions=deletions)

    return router


def _outcomes(coordinator: Coordinator, router: APIRouter) -> APIRouter:
    @router.post("/v1/deletions/outcomes", responses=BODY_PROBLEMS)
    async def outcomes(body: OutcomesRequest) -> OutcomesAnswer:
        """What became of ids, from the log: which deletion erased each, and its keyed hash in that receipt."""
        found = await coordinator.outcomes(tuple(body.sample_ids), tuple(body.subject_ids), tuple(body.deletions))
        return OutcomesAnswer(outcomes=found)

    return router


async def _table(request: Request) -> tuple[bytes, TableFormat]:
    """The bytes of the table in a request, and its format."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type in _FORMATS:
        return await request.body(), _FORMATS[content_type]
    if content_type != "multipart/form-data":
        raise HTTPException(
            415, f"the content type is {content_type!r}; allowed are multipart/form-data, {', '.join(_FORMATS)}"
        )
    async with request.form(max_files=1, max_fields=0) as form:
        file = form.get("table")
        if not isinstance(file, UploadFile):
            raise RequestValidationError([{"loc": ("body", "table"), "msg": "no file with this field name was sent"}])
        try:
            return await file.read(), format_of(file.filename or "")
        except DataError as error:
            raise RequestError(str(error)) from error


def _max_bytes(_: Request) -> int:
    return MAX_DELETION_BYTES
