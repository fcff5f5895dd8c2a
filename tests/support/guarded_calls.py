"""Calls of guarded routes, with and without an API key."""

from __future__ import annotations

import asyncio

import httpx2
from direct_service import URL, Service

from serving.api_keys import create_api_key

# By the scopes that open them.
ROUTES: dict[tuple[str, ...], list[tuple[str, str]]] = {
    ("predict",): [("POST", "/v1/predict")],
    ("delete",): [
        ("POST", "/v1/deletions"),
        ("POST", "/v1/deletions/none/retry"),
        ("POST", "/v1/deletions/preview"),
        ("POST", "/v1/deletions/table"),
    ],
    ("approve",): [("POST", "/v1/deletions/none/approve"), ("POST", "/v1/deletions/none/decline")],
    ("delete", "approve"): [("POST", "/v1/deletions/none/preview")],
    ("read", "delete", "approve"): [
        ("GET", "/v1/deletions"),
        ("GET", "/v1/deletions/none"),
        ("GET", "/v1/deletions/none/receipt"),
        ("POST", "/v1/deletions/outcomes"),
    ],
    ("read",): [("GET", "/v1/clusters"), ("GET", "/v1/commit")],
}
GUARDED = [(scopes, method, path) for scopes, routes in ROUTES.items() for method, path in routes]


def ask(
    service: Service,
    method: str,
    path: str,
    key: str | None = None,
    caller: str = "127.0.0.1",
    more: dict[str, str] | None = None,
) -> httpx2.Response:
    """Call from a machine with this address. The body is not JSON, so that nothing is changed."""

    async def run() -> httpx2.Response:
        transport = httpx2.ASGITransport(service.app, client=(caller, 40_000))
        async with httpx2.AsyncClient(base_url=URL, transport=transport) as client:
            headers = [(b"content-type", b"application/json")]
            if key is not None:
                headers.append((b"authorization", f"Bearer {key}".encode()))
            headers += [(name.encode(), value.encode()) for name, value in (more or {}).items()]
            return await client.request(method, path, headers=headers, content=b"{" if method == "POST" else None)

    return asyncio.run(run())


def new_key(service: Service, *scopes: str) -> str:
    return create_api_key(service.system.keys, scopes, "somebody")[1]


def assert_refused(answer: httpx2.Response, status: int, scopes: tuple[str, ...]) -> None:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert all(f"{scope!r}" in answer.json()["detail"] for scope in scopes)
    assert f'scope="{" ".join(scopes)}"' in answer.headers["www-authenticate"]
    assert answer.headers["www-authenticate"].startswith("Bearer ")
