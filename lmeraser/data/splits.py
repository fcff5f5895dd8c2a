"""Which split a file belongs to, by the names that the Hugging Face Hub goes by."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

_SHARD = re.compile(r"(.+?)-\d{5,}-of-\d{5,}")
_KEYWORDS = {
    **dict.fromkeys(("train", "training", "trainset"), "train"),
    **dict.fromkeys(("test", "testing", "testset", "eval", "evaluation"), "test"),
    **dict.fromkeys(("validation", "valid", "val", "valset", "dev"), "validation"),
}
# A word ends where a letter is followed by none, or by a capital: the words of trainA and XTest2 are train, A, X, Test.
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def split_of(path: str) -> str:
    """The split that a path below the source tells; empty where it tells none.

    ``train-00000-of-00001.parquet``, ``my_test.parquet``, ``testA.parquet``, ``default/validation/0000.parquet``.
    """
    place = PurePosixPath(path)
    shard = _SHARD.fullmatch(place.stem)
    for part in (shard[1] if shard else place.stem, *reversed(place.parent.parts)):
        for word in _WORDS.findall(part):
            if word.lower() in _KEYWORDS:
                return _KEYWORDS[word.lower()]
    return shard[1] if shard else ""


def same_split(split: str, other: str) -> bool:
    """Whether two names mean one split: val and validation do."""
    return _KEYWORDS.get(split.lower(), split) == _KEYWORDS.get(other.lower(), other)


def is_split(name: str) -> bool:
    """Whether a folder's name is that of a split and of nothing else: ``train``, ``Test``, ``val2017``, ``testA``."""
    first, *others = _WORDS.findall(name) or [""]
    return first.lower() in _KEYWORDS and all(len(other) == 1 for other in others)
