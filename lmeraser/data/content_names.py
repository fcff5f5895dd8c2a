"""Names for rows that have no sample id."""

from __future__ import annotations

import hashlib
from collections import Counter

from lmeraser.hashing import HashKey, canonical_json
from lmeraser.ids import comparable


class ContentNames:
    """Names rows by their content, so that a row keeps its name when others are added or removed before it.

    A name made from the position in a file would pass to the next row once a row is removed at the source. Rows that
    are equal in everything are numbered: it makes no difference to the others which of them is removed.
    """

    def __init__(self, key: HashKey | None) -> None:
        """With the store's hash key, a name reveals nothing about the image; without one, every store has the same."""
        self._key = key
        self._counts: Counter[str] = Counter()

    def name(self, content: bytes, label: str, subject_id: str | None) -> str:
        """The name of the next row: image-<32 hex digits>, then -2, -3 … for each further equal row.

        Rows must come in the order of the whole source: the number depends on how many equal rows came before.

        Args:
            content: the image's bytes.
            label: the label's name.
            subject_id: the row's, or None.
        """
        parts = ("content", hashlib.sha256(content).hexdigest(), label, *(() if subject_id is None else (subject_id,)))
        parts = tuple(map(comparable, parts))
        digest = hashlib.sha256(canonical_json(parts)).hexdigest() if self._key is None else self._key.of(*parts)
        name = f"image-{digest[:32]}"
        self._counts[name] += 1
        return name if self._counts[name] == 1 else f"{name}-{self._counts[name]}"
