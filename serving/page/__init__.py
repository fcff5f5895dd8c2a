"""The operator's page, static files that use the HTTP surface as any client does, and the API's description at /docs.

Addresses in them are relative, so that they hold under a path of a proxy as well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

_FOLDER = Path(__file__).parent
_SWAGGER_UI = _FOLDER / "swagger-ui"
# Nothing from elsewhere, and no script or style that is not one of these files.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob: data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {"Cache-Control": "no-cache", "Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer"}
_FILES = {
    "/": _FOLDER / "index.html",
    "/page.css": _FOLDER / "page.css",
    "/page.js": _FOLDER / "page.js",
    "/docs": _FOLDER / "docs.html",
    "/docs/docs.js": _FOLDER / "docs.js",
    "/docs/swagger-ui.css": _SWAGGER_UI / "swagger-ui.css",
    "/docs/swagger-ui-bundle.js": _SWAGGER_UI / "swagger-ui-bundle.js",
}
_MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}


def page_router() -> APIRouter:
    """Routes of the pages, open to everyone: what they show they ask for with the key that their reader types in."""
    router = APIRouter(include_in_schema=False)
    for path, file in _FILES.items():
        router.add_api_route(path, _sends(file), response_class=FileResponse)
    return router


def _sends(file: Path) -> Callable[[], Awaitable[FileResponse]]:
    async def send() -> FileResponse:
        return FileResponse(file, headers=_HEADERS, media_type=_MEDIA_TYPES[file.suffix])

    return send
