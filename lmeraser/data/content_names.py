"""Names for rows that have no sample id."""

from __future__ import annotations

import hashlib

from lmeraser.hashing import HashKey, canonical_json
from lmeraser.ids import comparable


def content_name(key: HashKey | None, content: bytes, label: str, subject_id: str | None) -> str:
    """A name made of what is in a row, ``image-`` and 32 hex digits, so that a row keeps it when others come or go.

    A name made from the position in a file would pass to the next row once a row is removed at the source. Rows that
    are equal in everything have one name, and so are one row to the store (decision 56).

    Args:
        key: the store's; without one, every store has the same names.
        content: the image's bytes.
        label: the label's name.
        subject_id: the row's, or None.
    """
    parts = ("content", hashlib.sha256(content).hexdigest(), label, *(() if subject_id is None else (subject_id,)))
    parts = tuple(map(comparable, parts))
    digest = hashlib.sha256(canonical_json(parts)).hexdigest() if key is None else key.of(*parts)
    return f"image-{digest[:32]}"
