"""Keys that occur more than once in a JSON object: readers may take one value or the other."""

from __future__ import annotations

from typing import Any


def repeated_key(pairs: list[tuple[str, Any]]) -> str | None:
    """The first repeated key among the pairs that ``object_pairs_hook`` receives; None when all are distinct."""
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            return name
        seen.add(name)
    return None
