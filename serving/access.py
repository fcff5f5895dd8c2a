"""Who may call which route: API keys as bearer tokens (RFC 6750), checked before a body is read.

While there are no keys, only programs on this machine may call. Refused are foreign web pages, whether their host name
resolves to this machine (header Host) or they send from another origin (Origin, Sec-Fetch-Site), and proxies.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response, Security
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException

from lmeraser.loopback import is_loopback
from serving.api_keys import ApiKeys, Scope
from serving.json_bodies import check_json
from serving.schemas import Problem

# For the OpenAPI document only; the route itself makes the check, before its body is read.
_BEARER = HTTPBearer(
    scheme_name="API key",
    description="Created by `lmeraser api-keys create`.",
    auto_error=False,
    bearerFormat="lmeraser_…",
)
_RESPONSES: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem},
    403: {"model": Problem},
    421: {"model": Problem},
    431: {"model": Problem},
}
# Headers that proxies, load balancers and CDNs add. A proxy that adds none looks like a local caller.
_FORWARDED = re.compile(
    r"forwarded|client-?ip|real-?ip|connecting-ip|remote-(ip|addr)|^via$|^cdn-loop$|^x-(envoy|original|proxy|amzn)-"
)
# The caller's name while there are no keys.
LOCAL = "local"
_HOST = re.compile(r"(\[[^\]]*\]|[^:]*)(:\d+)?")


def guarded_router(
    keys: ApiKeys, scopes: Scope | tuple[Scope, ...], max_body_bytes: Callable[[Request], int] | None = None
) -> APIRouter:
    """A router whose routes need an API key with this scope, or with one of these.

    While the folder has no keys, they answer callers on this machine.

    Args:
        keys: the API keys.
        scopes: the scope that a key must have, or several of which it must have one.
        max_body_bytes: the largest allowed body of a request; a small fixed limit when None.
    """

    allowed = (scopes,) if isinstance(scopes, str) else scopes

    class GuardedRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def guarded(request: Request) -> Response:
                request.scope["lmeraser.caller"] = _check(keys, allowed, request)
                _check_body(request, max_body_bytes)
                if max_body_bytes is not None:
                    await check_json(request)
                return await handle(request)

            return guarded

    return APIRouter(
        route_class=GuardedRoute, dependencies=[Security(_BEARER, scopes=list(allowed))], responses=dict(_RESPONSES)
    )


def caller_of(request: Request) -> str:
    """Name of whoever calls: of the API key, or "local" while there are no keys."""
    return str(request.scope["lmeraser.caller"])


def _check(keys: ApiKeys, scopes: tuple[Scope, ...], request: Request) -> str:
    """The name of the caller, who may call."""
    needed = f"scope {scopes[0]!r}" if len(scopes) == 1 else f"scope {_either(scopes)}"
    challenge = f'Bearer realm="lmeraser", scope="{" ".join(scopes)}"'
    if not keys.current() and _is_local(request):
        _check_not_foreign_page(request)
        return LOCAL
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise HTTPException(
            401,
            f"an API key with the {needed} is needed: send it as `Authorization: Bearer KEY`",
            {"WWW-Authenticate": challenge},
        )
    key = keys.find(secret.strip())
    if key is None:
        raise HTTPException(
            401,
            f"the API key is unknown or revoked; one with the {needed} is needed",
            {"WWW-Authenticate": f'{challenge}, error="invalid_token"'},
        )
    if not any(map(key.allows, scopes)):
        raise HTTPException(
            403,
            f"the API key {key.id} has the scopes {', '.join(key.scopes)}; the {needed} is needed",
            {"WWW-Authenticate": f'{challenge}, error="insufficient_scope"'},
        )
    return key.caller


def _either(scopes: tuple[Scope, ...]) -> str:
    return f"{', '.join(map(repr, scopes[:-1]))} or {scopes[-1]!r}"


def _is_local(request: Request) -> bool:
    """Whether the caller is a program on this machine, and no proxy announces itself in between."""
    return (
        request.client is not None
        and is_loopback(request.client.host)
        and not any(_FORWARDED.search(name) for name in request.headers)
    )


def _check_not_foreign_page(request: Request) -> None:
    host = request.headers.get("host", "")
    match = _HOST.fullmatch(host)
    if len(request.headers.getlist("host")) != 1 or match is None or not is_loopback(match[1].strip("[]")):
        raise HTTPException(
            421,
            f"the header Host is {host!r}; while there is no API key, allowed are localhost, 127.0.0.1 and [::1] with "
            "any port: `lmeraser api-keys create` creates a key",
        )
    origin = request.headers.get("origin")
    if origin is not None and origin.lower() not in (f"http://{host}".lower(), f"https://{host}".lower()):
        raise HTTPException(
            403,
            f"the request was sent by a page of {origin!r}; while there is no API key, foreign pages may not call",
        )
    if request.headers.get("sec-fetch-site") == "cross-site":
        raise HTTPException(
            403, "the request was sent by another site's page; while there is no API key, foreign pages may not call"
        )


def _check_body(request: Request, max_body_bytes: Callable[[Request], int] | None) -> None:
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        raise HTTPException(
            415,
            f"the content encoding is {coding!r}; allowed is none: send the body uncompressed",
            {"Accept-Encoding": "identity"},
        )
    body = request.scope["lmeraser.body"]
    if max_body_bytes is not None:
        body.max_bytes = max_body_bytes(request)
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > body.max_bytes:
        raise body.too_long()
