"""Which split a file belongs to, by the naming rules of the Hugging Face Hub."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

_SHARD = re.compile(r"(.+?)-\d{5,}-of-\d{5,}")
_KEYWORDS = {
    **dict.fromkeys(("train", "training", "trainset"), "train"),
    **dict.fromkeys(("test", "testing", "testset", "eval", "evaluation"), "test"),
    **dict.fromkeys(("validation", "valid", "val", "valset", "dev"), "validation"),
}
# A word ends before a capital and before anything that is not a letter: trainA and XTest2 are train, A and X, Test.
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def split_of(path: str) -> str:
    """The split that a path below the source names; empty where it names none.

    ``train-00000-of-00001.parquet``, ``my_test.parquet``, ``testA.parquet``, ``default/validation/0000.parquet``.
    """
    file = PurePosixPath(path)
    shard = _SHARD.fullmatch(file.stem)
    for part in (shard[1] if shard else file.stem, *reversed(file.parent.parts)):
        for word in _WORDS.findall(part):
            if word.lower() in _KEYWORDS:
                return _KEYWORDS[word.lower()]
    return shard[1] if shard else ""


def same_split(split: str, other: str) -> bool:
    """Whether two names mean the same split, as val and validation do."""
    return _KEYWORDS.get(split.lower(), split) == _KEYWORDS.get(other.lower(), other)


def is_split(name: str) -> bool:
    """Whether a folder's name is just that of a split: ``train``, ``Test``, ``val2017``, ``testA``."""
    first, *others = _WORDS.findall(name) or [""]
    return first.lower() in _KEYWORDS and all(len(other) == 1 for other in others)
