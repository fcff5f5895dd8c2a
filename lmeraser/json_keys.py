"""Keys that a JSON object has more than once: readers would take one value or the other, and nobody says which."""

from __future__ import annotations

from typing import Any


def repeated_key(pairs: list[tuple[str, Any]]) -> str | None:
    """The first key that comes again among those of a JSON object, as ``object_pairs_hook`` has them."""
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            return name
        seen.add(name)
    return None
