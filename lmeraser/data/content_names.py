"""Names for rows that come without a sample id."""

from __future__ import annotations

import hashlib
from collections import Counter

from lmeraser.hashing import HashKey, canonical_json
from lmeraser.ids import comparable


class ContentNames:
    """Names rows by what is in them, so that a row keeps its name when others come before it or go.

    A name after the place in a file would pass to the neighbour once a row is taken out at the source. Rows that are
    alike in everything are counted: which of them goes makes no difference to the others.
    """

    def __init__(self, key: HashKey | None) -> None:
        """Under the store's hash key a name tells nothing of the image; without one, names are the same everywhere."""
        self._key = key
        self._seen: Counter[str] = Counter()

    def name(self, content: bytes, label: str, subject_id: str | None) -> str:
        """The name of the next row: image-<32 hex digits>, and -2, -3 … where the same row comes again.

        Args:
            content: the image's bytes.
            label: the label's name.
            subject_id: the row's, or None.
        """
        parts = ("content", hashlib.sha256(content).hexdigest(), label, *(() if subject_id is None else (subject_id,)))
        parts = tuple(map(comparable, parts))
        digest = hashlib.sha256(canonical_json(parts)).hexdigest() if self._key is None else self._key.of(*parts)
        name = f"image-{digest[:32]}"
        self._seen[name] += 1
        return name if self._seen[name] == 1 else f"{name}-{self._seen[name]}"
