"""Who may call which route: API keys as bearer tokens (RFC 6750), checked before a body is read."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response, Security
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException

from lmeraser.api_keys import ApiKeys, Scope, is_loopback
from serving.schemas import Problem

# Names the scheme in the OpenAPI document; the check itself is made by the route, before its body is read.
_BEARER = HTTPBearer(
    scheme_name="API key", description="Made by `lmeraser keys create`.", auto_error=False, bearerFormat="lmeraser_…"
)
_RESPONSES: dict[int | str, dict[str, Any]] = {401: {"model": Problem}, 403: {"model": Problem}}


def guarded_router(keys: ApiKeys, scope: Scope) -> APIRouter:
    """A router whose routes answer only to keys with this scope.

    Without keys in the folder they answer to callers on this machine.
    """

    class GuardedRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def guarded(request: Request) -> Response:
                _check(keys, scope, request)
                return await handle(request)

            return guarded

    return APIRouter(
        route_class=GuardedRoute, dependencies=[Security(_BEARER, scopes=[scope])], responses=dict(_RESPONSES)
    )


def _check(keys: ApiKeys, scope: Scope, request: Request) -> None:
    if not keys.current() and request.client is not None and is_loopback(request.client.host):
        return
    kind, _, secret = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not secret.strip():
        raise HTTPException(
            401,
            f"an API key with the scope {scope!r} is needed: send it as `Authorization: Bearer KEY`",
            {"WWW-Authenticate": f'Bearer realm="lmeraser", scope="{scope}"'},
        )
    key = keys.find(secret.strip())
    if key is None:
        raise HTTPException(
            401,
            f"the API key is unknown or revoked; one with the scope {scope!r} is needed",
            {"WWW-Authenticate": f'Bearer realm="lmeraser", scope="{scope}", error="invalid_token"'},
        )
    if not key.allows(scope):
        raise HTTPException(
            403,
            f"the API key {key.id} has the scopes {', '.join(key.scopes)}; the scope {scope!r} is needed",
            {"WWW-Authenticate": f'Bearer realm="lmeraser", scope="{scope}", error="insufficient_scope"'},
        )
