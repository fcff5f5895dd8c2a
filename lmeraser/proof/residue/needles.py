"""What a scan searches for: ids, and parts of images, of their pixels and of their features."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ahocorasick_rs import BytesAhoCorasick, Implementation

from lmeraser.proof.residue.forms import binaries, texts

# Shorter ids occur by chance in binary files: they count in row files, and in text as separate words.
SHORTEST_ANYWHERE = 6
REGION = 96
_LETTERS = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
_WORD = _LETTERS | frozenset(b"./@:+")
_ESCAPE_BEFORE = re.compile(rb"(?:\\u[0-9a-fA-F]{4}|\\x[0-9a-fA-F]{2}|\\[bfnrt]|%[0-9a-fA-F]{2})\Z")
_ENDS = frozenset(b".:")
# The longest form of a byte: \u0041.
_LONGEST_FORM = 6


class Needles:
    """Finds ids and parts of images in data, in time that grows with the data and not with the number of needles.

    Attributes:
        reach: the largest number of bytes that one of them takes up in any form.
    """

    def __init__(self, ids: Sequence[str], regions: Mapping[bytes, str], known: Iterable[str]) -> None:
        """Args:
        ids: given in findings by their positions, from 1.
        regions: parts of images, each with a description for findings.
        known: ids that may be there; an erased id that is a part of one of these counts only where it occurs apart.
        """
        self._positions: dict[bytes, int] = {}
        self._wide: dict[bytes, int] = {}
        self._numbers = {position for position, name in enumerate(ids, start=1) if not any(map(str.isalpha, name))}
        for position, name in enumerate(ids, start=1):
            for form in {name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)}:
                self._positions[form.encode()] = position
                if not form.isascii():
                    self._wide |= {form.encode("utf-16-le"): position, form.encode("utf-16-be"): position}
        self._regions = regions
        self._known = set(_around(known, self._positions))
        self._patterns = [*self._positions, *self._wide, *regions, *self._known]
        self._automaton = _automaton(self._patterns)
        self.reach = _LONGEST_FORM * max(map(len, [b"", *self._positions, *regions])) + 64

    def in_data(self, data: bytes, plain_numbers: bool = True) -> tuple[set[str], set[str]]:
        """Which needles are in the data in any form: those that certainly are, and those that may be unrelated numbers.

        Args:
            data: part of a file.
            plain_numbers: whether to search for ids without letters, as separate words.
        """
        sure: set[str] = set()
        doubtful: set[str] = set()
        self._collect(data, False, False, sure, doubtful)
        for text, whole in texts(data):
            self._collect(text, whole, plain_numbers, sure, doubtful)
            for binary in binaries(text):
                self._collect(binary, False, False, sure, doubtful)
        return sure, doubtful

    def in_path(self, path: str) -> tuple[set[str], set[str]]:
        """Which needles are in a path, or equal one of its parts up to the first full stop."""
        sure, doubtful = self.in_data(path.encode("utf-8", "surrogateescape"))
        for part in path.split("/"):
            position = self._positions.get(part.partition(".")[0].encode("utf-8", "surrogateescape"))
            if position is not None:
                (doubtful if position in self._numbers else sure).add(_named(position))
        return sure, doubtful

    def _collect(self, data: bytes, words: bool, numbers: bool, sure: set[str], doubtful: set[str]) -> None:
        if self._automaton is None:
            return
        matches: list[tuple[bytes, int, int]] = []
        covers: list[tuple[int, int]] = []
        for index, start, end in self._automaton.find_matches_as_indexes(data, overlapping=True):
            pattern = self._patterns[index]
            if pattern in self._known and _is_whole(data, start, end):
                covers.append((start, end))
            matches.append((pattern, start, end))
        covered = _Covered(covers)
        for pattern, start, end in matches:
            if (what := self._regions.get(pattern)) is not None:
                sure.add(what)
            elif (wide := self._wide.get(pattern)) is not None:
                sure.add(_named(wide))
            elif (position := self._positions.get(pattern, 0)) and not covered.has(start, end):
                alone = words and _stands_alone(data, start, end)
                if position in self._numbers:
                    if numbers and alone:
                        doubtful.add(_named(position))
                elif len(pattern) >= SHORTEST_ANYWHERE or alone:
                    sure.add(_named(position))


def _named(position: int) -> str:
    """Describes an id without repeating it, because it should not be written anywhere again."""
    return f"the id in place {position} of the list"


class _Covered:
    """Finds out which ranges are within given ones."""

    def __init__(self, covers: list[tuple[int, int]]) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in sorted(covers):
            self._starts.append(start)
            self._ends.append(max(end, self._ends[-1]) if self._ends else end)

    def has(self, start: int, end: int) -> bool:
        """Whether one of the given ranges contains this one."""
        count = bisect_right(self._starts, start)
        return count > 0 and self._ends[count - 1] >= end


def regions(whole: bytes, count: int) -> list[bytes]:
    """So many parts from inside the data; all of it if it is short."""
    if len(whole) <= (count + 1) * REGION:
        return [whole]
    starts = [len(whole) * part // (count + 1) for part in range(1, count + 1)]
    return [whole[start : start + REGION] for start in starts]


def held_elsewhere(parts: Iterable[bytes], others: Iterable[bytes]) -> set[bytes]:
    """Those of the parts that occur in one of the others."""
    patterns = list(parts)
    automaton = _automaton(patterns)
    shared: set[bytes] = set()
    if automaton is None:
        return shared
    for other in others:
        shared.update(patterns[index] for index, _, _ in automaton.find_matches_as_indexes(other, overlapping=True))
    return shared


def _automaton(patterns: list[bytes]) -> BytesAhoCorasick | None:
    return BytesAhoCorasick(patterns, implementation=Implementation.ContiguousNFA) if patterns else None


def _around(known: Iterable[str], ids: Mapping[bytes, int]) -> Iterator[bytes]:
    """Known ids that contain one of the ids that are searched for, and more."""
    automaton = _automaton(list(ids))
    if automaton is None:
        return
    for name in known:
        form = name.encode()
        if form not in ids and automaton.find_matches_as_indexes(form):
            yield form


def _is_whole(data: bytes, start: int, end: int) -> bool:
    """Whether nothing next to it can belong to the same id; an escape before it ends in a letter, but does not."""
    if end < len(data) and data[end] in _LETTERS:
        return False
    return (
        start == 0
        or data[start - 1] not in _LETTERS
        or _ESCAPE_BEFORE.search(data, max(start - 6, 0), start) is not None
    )


def _stands_alone(data: bytes, start: int, end: int) -> bool:
    """Whether it is a separate word; a full stop or a colon may follow."""
    if start > 0 and data[start - 1] in _WORD:
        return False
    if end < len(data) and data[end] in _ENDS:
        end += 1
    return end >= len(data) or data[end] not in _WORD
