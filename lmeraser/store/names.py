"""Names of objects: relative paths that never lead upwards."""

from __future__ import annotations

from lmeraser.errors import StoreError


def check_name(name: str) -> str:
    """Return the name if it is valid.

    Raises:
        StoreError: when it is not a relative path, or has an empty part or one that is ``.`` or ``..``.
    """
    if not {"", ".", ".."}.isdisjoint(name.split("/")):
        raise StoreError(f"{name!r} is not an object name: a relative path without '..' is allowed")
    return name
