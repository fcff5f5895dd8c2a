"""What every body in JSON must be, whatever its route makes of it."""

from __future__ import annotations

import json
from typing import Any

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from lmeraser.errors import RequestError
from lmeraser.json_keys import repeated_key

_QUOTED_CHARACTERS = 100


async def check_json(request: Request) -> None:
    """Refuse a body in JSON with a key that stands twice in it: parsers take the last one, and the first is lost.

    A body that is no JSON at all is left to its route.

    Raises:
        RequestError: when a key stands twice.
        HTTPException: when the body does not arrive.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not kind.endswith(("/json", "+json")):
        return
    try:
        body = await request.body()
    except ClientDisconnect as error:
        raise HTTPException(400, "the body did not arrive in full") from error
    try:
        json.loads(body, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    name = repeated_key(pairs)
    if name is not None:
        raise RequestError(f"the key {name[:_QUOTED_CHARACTERS]!r} stands twice in a JSON object; allowed is once")
    return dict(pairs)
