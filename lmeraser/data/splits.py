"""Which split a file belongs to, by the names that the Hugging Face Hub goes by."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

_SHARD = re.compile(r"(.+?)-\d{5,}-of-\d{5,}")
_KEYWORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
}


def split_of(path: str) -> str:
    """The split that a path below the source tells; empty where it tells none.

    ``train-00000-of-00001.parquet``, ``my_test.parquet``, ``default/validation/0000.parquet``.
    """
    place = PurePosixPath(path)
    shard = _SHARD.fullmatch(place.stem)
    for part in (shard[1] if shard else place.stem, *reversed(place.parent.parts)):
        for word in re.split(r"[^a-z]+", part.lower()):
            if word in _KEYWORDS:
                return _KEYWORDS[word]
    return shard[1] if shard else ""


def same_split(split: str, other: str) -> bool:
    """Whether two names mean one split: val and validation do."""
    return _KEYWORDS.get(split.lower(), split) == _KEYWORDS.get(other.lower(), other)
