"""The operator's page, static files that use the HTTP routes like any client, and the API's description at /docs.

All addresses are relative, so that the pages also work behind a proxy with a path prefix.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

_FOLDER = Path(__file__).parent
_SWAGGER_UI = _FOLDER / "swagger-ui"
# Nothing from other sites, and no script or style but these files.
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
    """Routes of the pages, open to everyone: they fetch what they show with the API key that the user enters."""
    router = APIRouter(include_in_schema=False)
    for path, file in _FILES.items():
        router.add_api_route(path, _sends(file), response_class=FileResponse)
    return router


def _sends(file: Path) -> Callable[[], Awaitable[FileResponse]]:
    async def send() -> FileResponse:
        return FileResponse(file, headers=_HEADERS, media_type=_MEDIA_TYPES[file.suffix])

    return send
