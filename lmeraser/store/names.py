"""Which names objects may have: relative paths that lead nowhere but down."""

from __future__ import annotations

from lmeraser.errors import StoreError


def check_name(name: str) -> str:
    """The name, if it is one.

    Raises:
        StoreError: when it is not a relative path, or has an empty part or one that is ``.`` or ``..``.
    """
    if not {"", ".", ".."}.isdisjoint(name.split("/")):
        raise StoreError(f"{name!r} is not an object name: a relative path without '..' is allowed")
    return name
