"""The operator's page: three static files that use the HTTP surface as any client does."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

_FOLDER = Path(__file__).parent
_HEADERS = {
    "Cache-Control": "no-cache",
    # Nothing from elsewhere, and no script or style that is not one of these files.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def page_router() -> APIRouter:
    """Routes of the page, open to everyone: what it shows it asks for with the key that its reader types in."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def index() -> FileResponse:
        return FileResponse(_FOLDER / "index.html", headers=_HEADERS)

    @router.get("/page.css")
    async def style() -> FileResponse:
        return FileResponse(_FOLDER / "page.css", headers=_HEADERS)

    @router.get("/page.js")
    async def script() -> FileResponse:
        return FileResponse(_FOLDER / "page.js", headers=_HEADERS, media_type="text/javascript")

    return router
