"""What a scan looks for: ids, and parts of images, of their pixels and of their features."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ahocorasick_rs import BytesAhoCorasick, Implementation

from lmeraser.proof.residue.forms import binaries, texts

# A shorter id is met by chance in binary files: it counts in row files, and in text as a word of its own.
SHORTEST_ANYWHERE = 6
REGION = 96
_LETTERS = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
_WORD = _LETTERS | frozenset(b"./@:+")
_ESCAPE_BEFORE = re.compile(rb"(?:\\u[0-9a-fA-F]{4}|\\x[0-9a-fA-F]{2}|\\[bfnrt]|%[0-9a-fA-F]{2})\Z")
_ENDS = frozenset(b".:")
# The longest form of a byte: \u0041.
_LONGEST_FORM = 6


class Needles:
    """Finds ids and regions of bytes in data, in time that grows with the data and not with what is looked for.

    Attributes:
        reach: how many bytes one of them may take up in any form.
    """

    def __init__(self, ids: Sequence[str], regions: Mapping[bytes, str], known: Iterable[str]) -> None:
        """Args:
        ids: named in findings by their places, from 1.
        regions: what each is a part of, as findings say it.
        known: ids that may be there; an erased id that is a part of one of these counts only where it stands apart.
        """
        self._places: dict[bytes, int] = {}
        self._wide: dict[bytes, int] = {}
        self._numbers = {place for place, name in enumerate(ids, start=1) if not any(map(str.isalpha, name))}
        for place, name in enumerate(ids, start=1):
            for form in {name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)}:
                self._places[form.encode()] = place
                if not form.isascii():
                    self._wide |= {form.encode("utf-16-le"): place, form.encode("utf-16-be"): place}
        self._regions = regions
        self._known = set(_around(known, self._places))
        self._patterns = [*self._places, *self._wide, *regions, *self._known]
        self._automaton = _automaton(self._patterns)
        self.reach = _LONGEST_FORM * max(map(len, [b"", *self._places, *regions])) + 64

    def found(self, data: bytes, plain_numbers: bool = True) -> tuple[set[str], set[str]]:
        """What of it is in the data in any form: what surely is, and what may be a number that means another thing.

        Args:
            data: part of a file.
            plain_numbers: whether ids without a letter are looked for; only as words of their own, if so.
        """
        sure: set[str] = set()
        doubtful: set[str] = set()
        self._collect(data, False, False, sure, doubtful)
        for text, whole in texts(data):
            self._collect(text, whole, plain_numbers, sure, doubtful)
            for binary in binaries(text):
                self._collect(binary, False, False, sure, doubtful)
        return sure, doubtful

    def named(self, path: str) -> tuple[set[str], set[str]]:
        """What of it is in a path, or is what one of its parts is called before the first full stop."""
        sure, doubtful = self.found(path.encode("utf-8", "surrogateescape"))
        for part in path.split("/"):
            place = self._places.get(part.partition(".")[0].encode("utf-8", "surrogateescape"))
            if place is not None:
                (doubtful if place in self._numbers else sure).add(_named(place))
        return sure, doubtful

    def _collect(self, data: bytes, words: bool, numbers: bool, sure: set[str], doubtful: set[str]) -> None:
        if self._automaton is None:
            return
        matches: list[tuple[bytes, int, int]] = []
        covers: list[tuple[int, int]] = []
        for place, start, end in self._automaton.find_matches_as_indexes(data, overlapping=True):
            pattern = self._patterns[place]
            if pattern in self._known and _is_whole(data, start, end):
                covers.append((start, end))
            matches.append((pattern, start, end))
        covered = _Covered(covers)
        for pattern, start, end in matches:
            if (what := self._regions.get(pattern)) is not None:
                sure.add(what)
            elif (wide := self._wide.get(pattern)) is not None:
                sure.add(_named(wide))
            elif (place := self._places.get(pattern, 0)) and not covered.has(start, end):
                alone = words and _stands_alone(data, start, end)
                if place in self._numbers:
                    if numbers and alone:
                        doubtful.add(_named(place))
                elif len(pattern) >= SHORTEST_ANYWHERE or alone:
                    sure.add(_named(place))


def _named(place: int) -> str:
    """An id that should be gone is not written down again."""
    return f"the id in place {place} of the list"


class _Covered:
    """Which stretches lie within given ones."""

    def __init__(self, covers: list[tuple[int, int]]) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in sorted(covers):
            self._starts.append(start)
            self._ends.append(max(end, self._ends[-1]) if self._ends else end)

    def has(self, start: int, end: int) -> bool:
        """Whether one of the given stretches that begin no later ends no sooner."""
        place = bisect_right(self._starts, start)
        return place > 0 and self._ends[place - 1] >= end


def regions(whole: bytes, count: int) -> list[bytes]:
    """As many parts of it as are asked for, from within; all of it where it is short."""
    if len(whole) <= (count + 1) * REGION:
        return [whole]
    places = [len(whole) * part // (count + 1) for part in range(1, count + 1)]
    return [whole[place : place + REGION] for place in places]


def held_elsewhere(parts: Iterable[bytes], others: Iterable[bytes]) -> set[bytes]:
    """Those parts that are in one of the others."""
    patterns = list(parts)
    automaton = _automaton(patterns)
    found: set[bytes] = set()
    if automaton is None:
        return found
    for other in others:
        found.update(patterns[place] for place, _, _ in automaton.find_matches_as_indexes(other, overlapping=True))
    return found


def _automaton(patterns: list[bytes]) -> BytesAhoCorasick | None:
    return BytesAhoCorasick(patterns, implementation=Implementation.ContiguousNFA) if patterns else None


def _around(known: Iterable[str], ids: Mapping[bytes, int]) -> Iterator[bytes]:
    """Known ids that hold one of the ids looked for, and more."""
    automaton = _automaton(list(ids))
    if automaton is None:
        return
    for name in known:
        form = name.encode()
        if form not in ids and automaton.find_matches_as_indexes(form):
            yield form


def _is_whole(data: bytes, start: int, end: int) -> bool:
    """Whether nothing around it can be a part of the same id; an escape before it ends in a letter and is none."""
    if end < len(data) and data[end] in _LETTERS:
        return False
    return (
        start == 0
        or data[start - 1] not in _LETTERS
        or _ESCAPE_BEFORE.search(data, max(start - 6, 0), start) is not None
    )


def _stands_alone(data: bytes, start: int, end: int) -> bool:
    """Whether it is a word of its own; a full stop or a colon may follow."""
    if start > 0 and data[start - 1] in _WORD:
        return False
    if end < len(data) and data[end] in _ENDS:
        end += 1
    return end >= len(data) or data[end] not in _WORD
