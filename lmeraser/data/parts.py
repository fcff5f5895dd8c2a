"""Sources whose rows are read in parts."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, Self, TypeVar

from lmeraser.data.sample import Part, Sample, SourceReport
from lmeraser.errors import DataError

# A part is full at whichever comes first. What cannot be divided, such as a row group, is a part all the same.
PART_ROWS = 256
PART_BYTES = 16 << 20
T = TypeVar("T")


@dataclass(frozen=True)
class Piece(Generic[T]):
    """A part, and what a source needs to read it."""

    part: Part
    content: T


@dataclass(frozen=True)
class Unit(Generic[T]):
    """What cannot be divided: a row group, a file with one image.

    Attributes:
        content: what a source needs to read it.
        rows, size: see :class:`Part`.
    """

    content: T
    rows: int
    size: int


class PartedSource(ABC, Generic[T]):
    """Base of sources: what is the same once a source says what its pieces are and how one is read."""

    labels: tuple[str, ...] = ()
    # Of all pieces, those from here up to there.
    _own: tuple[int, int] | None = None

    def __init__(self, report: SourceReport | None = None) -> None:
        """Count what a user should know in the report."""
        self._report = report or SourceReport()

    @abstractmethod
    def _pieces(self) -> Sequence[Piece[T]]:
        """All pieces, listed once."""

    @abstractmethod
    def _read(self, content: T, labels: tuple[str, ...]) -> Iterator[Sample]:
        """The samples of one piece."""

    def _ids(self, content: T, labels: tuple[str, ...]) -> Iterator[str]:
        """The ids of the samples of one piece."""
        return (sample.sample_id for sample in self._read(content, labels))

    def label_values(self, most: int) -> list[str | int | None]:  # noqa: ARG002 - for sources with other labels
        """See Source.label_values."""
        return []

    def count(self) -> int:
        """See Source.count."""
        return sum(part.rows for part in self.parts())

    def parts(self) -> Sequence[Part]:
        """See Source.parts."""
        return [piece.part for piece in self._own_pieces]

    def read(self, part: Part, labels: tuple[str, ...]) -> Iterator[Sample]:
        """See Source.read."""
        pieces = self._all_pieces
        if part.number >= len(pieces) or pieces[part.number].part != part:
            raise DataError(f"the source has changed since it was opened: {part.place} is not what it was")
        return self._read(pieces[part.number].content, labels)

    def sample_ids(self, labels: tuple[str, ...]) -> Iterator[str]:
        """See Source.sample_ids."""
        for piece in self._own_pieces:
            yield from self._ids(piece.content, labels)

    def samples(self, labels: tuple[str, ...]) -> Iterator[Sample]:
        """See Source.samples."""
        self._report.unnamed = 0
        for piece in self._own_pieces:
            yield from self._read(piece.content, labels)

    def shard(self, num_shards: int, index: int) -> Self:
        """See Source.shard."""
        assert 0 <= index < num_shards
        shard = copy.copy(self)
        start, stop = self._own or (0, len(self._all_pieces))
        rows = [piece.part.rows for piece in self._all_pieces[start:stop]]
        first = sum(row_start * num_shards < sum(rows) * index for row_start in _starts(rows))
        last = sum(row_start * num_shards < sum(rows) * (index + 1) for row_start in _starts(rows))
        shard._own = (start + first, start + (last if index + 1 < num_shards else len(rows)))
        return shard

    @cached_property
    def _all_pieces(self) -> Sequence[Piece[T]]:
        return self._pieces()

    @property
    def _own_pieces(self) -> Sequence[Piece[T]]:
        start, stop = self._own or (0, len(self._all_pieces))
        return self._all_pieces[start:stop]


def pieces_of(units: Iterable[tuple[str, Unit[T]]], first: int = 0) -> Iterator[Piece[tuple[T, ...]]]:
    """Units that follow each other, at the same place, together in pieces that are full where they can be.

    Args:
        units: each with the place where it is, such as a file; no piece goes over two places.
        first: number of the first part.
    """
    place, pending = "", list[Unit[T]]()
    start = 0

    def piece() -> Piece[tuple[T, ...]]:
        where = f"{place}, {start} to {start + len(pending)}"
        part = Part(first, where, sum(unit.rows for unit in pending), sum(unit.size for unit in pending))
        return Piece(part, tuple(unit.content for unit in pending))

    for at, unit in units:
        rows, size = (sum(getattr(each, name) for each in pending) for name in ("rows", "size"))
        full = rows + unit.rows > PART_ROWS or size + unit.size > PART_BYTES
        if pending and (at != place or full):
            yield piece()
            first += 1
            start = start + len(pending) if at == place else 0
            pending = []
        elif at != place:
            start = 0
        place = at
        pending.append(unit)
    if pending:
        yield piece()


def ranges_of(place: str, rows: int, row_bytes: int = 0) -> list[Piece[range]]:
    """Pieces of rows that are numbered and can be read in any order."""
    starts = range(0, rows, PART_ROWS)
    chosen = (range(start, min(start + PART_ROWS, rows)) for start in starts)
    return [
        Piece(Part(number, f"{place}, {own.start} to {own.stop}", len(own), len(own) * row_bytes), own)
        for number, own in enumerate(chosen)
    ]


def _starts(rows: Sequence[int]) -> Iterator[int]:
    """The number of the first row of each piece."""
    total = 0
    for each in rows:
        yield total
        total += each
