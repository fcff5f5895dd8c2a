"""Which rows the system holds: derived from the segments' indexes, never stored, and changed in place.

It knows keyed hashes and no id in clear, and takes 64 bytes a row. Rows are in blocks, each sorted by the first eight
bytes of the sample's hash, so that a row is found by bisection; small blocks are merged into larger ones.

Legend: N rows, S rows that have a subject, R found rows, M hashes that are looked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lmeraser.state.hash_arrays import as_strings, from_hex
from lmeraser.state.segment import SegmentIndex

_GONE = -1


@dataclass(frozen=True)
class Rows:
    """Some rows.

    Attributes:
        samples_R32: uint8, keyed hashes of their sample ids.
        anchors_R: int32, nearest anchors.
        bits_R: uint64, hashes that divide the rows below an anchor.
    """

    samples_R32: np.ndarray
    anchors_R: np.ndarray
    bits_R: np.ndarray

    @staticmethod
    def of(index: SegmentIndex) -> Rows:
        """The rows of a segment."""
        return Rows(index.samples_N32, index.anchors_N, index.bits_N)

    @staticmethod
    def joined(parts: Iterable[Rows]) -> Rows:
        """The rows of all parts, each once."""
        parts = [NO_ROWS, *parts]
        together = Rows(
            np.concatenate([part.samples_R32 for part in parts]),
            np.concatenate([part.anchors_R for part in parts]),
            np.concatenate([part.bits_R for part in parts]),
        )
        if sum(len(part) > 0 for part in parts) < 2:
            return together
        _, first = np.unique(as_strings(together.samples_R32), return_index=True)
        return together.at(first) if len(first) < len(together) else together

    def __len__(self) -> int:
        return len(self.anchors_R)

    def at(self, positions: np.ndarray) -> Rows:
        """The rows at these positions, or those that a mask selects."""
        return Rows(self.samples_R32[positions], self.anchors_R[positions], self.bits_R[positions])

    def hashes(self) -> list[str]:
        """Keyed hashes of their sample ids, as hex digits."""
        return [row.tobytes().hex() for row in self.samples_R32]


NO_ROWS = Rows(np.zeros((0, 32), np.uint8), np.zeros(0, np.int32), np.zeros(0, np.uint64))


class RowIndex:
    """Finds rows by the keyed hashes of their samples and subjects. One thread changes it; others may read it."""

    def __init__(self, parts: Iterable[SegmentIndex] = (), rows: int = 0) -> None:
        """The index of the rows of these parts, so many in all; no two parts are in memory at the same time."""
        block = _Block.of(parts, rows)
        self._blocks: tuple[_Block, ...] = (block,) if len(block) else ()

    def __len__(self) -> int:
        return sum(int((block.anchors_N != _GONE).sum()) for block in self._blocks)

    def add(self, parts: Sequence[SegmentIndex]) -> None:
        """Add the rows of these parts, none of which it holds."""
        blocks = [*self._blocks, _Block.of(parts, sum(map(len, parts)))]
        while len(blocks) > 1 and len(blocks[-2]) < 2 * len(blocks[-1]):
            blocks[-2:] = [_Block.merged(blocks[-2:])]
        self._blocks = tuple(block for block in blocks if len(block))

    def remove(self, rows: Rows) -> None:
        """Remove these rows."""
        for block in self._blocks:
            block.anchors_N[block.of_samples(rows.samples_R32)] = _GONE

    def of_samples(self, hashes: Iterable[str]) -> Rows:
        """The rows whose samples have these keyed hashes, given as hex digits."""
        wanted_M32 = from_hex(hashes)
        return Rows.joined(block.rows(block.of_samples(wanted_M32)) for block in self._blocks)

    def of_subjects(self, hashes: Iterable[str]) -> Rows:
        """The rows whose subjects have these keyed hashes, given as hex digits."""
        wanted_M32 = from_hex(hashes)
        return Rows.joined(block.rows(block.of_subjects(wanted_M32)) for block in self._blocks)

    def subjects_with_rows(self, hashes: Iterable[str]) -> list[str]:
        """Those of the keyed hashes of subjects, given as hex digits, that have rows."""
        hashes = list(hashes)
        with_rows_M = np.zeros(len(hashes), bool)
        for block in self._blocks:
            with_rows_M |= block.rows_of_each(from_hex(hashes)) > 0
        return [each for each, has_rows in zip(hashes, with_rows_M, strict=True) if has_rows]

    def has_the_rows_of(self, other: RowIndex) -> bool:
        """Whether the samples of both are the same. Looks at every row."""
        ours, theirs = (np.sort(as_strings(index._samples())) for index in (self, other))
        return np.array_equal(ours, theirs)

    def _samples(self) -> np.ndarray:
        """Keyed hashes of all samples, uint8 [N, 32]."""
        parts = [NO_ROWS.samples_R32]
        parts += [block.rows(np.flatnonzero(block.anchors_N != _GONE)).samples_R32 for block in self._blocks]
        return np.concatenate(parts)

    def bits_at(self, anchor: int, without: Rows) -> np.ndarray:
        """The bits of the rows at an anchor but for some, uint64. Looks at every row."""
        parts = [NO_ROWS.bits_R]
        for block in self._blocks:
            here_N = block.anchors_N == anchor
            here_N[block.of_samples(without.samples_R32)] = False
            parts.append(block.bits_N[here_N])
        return np.concatenate(parts)

    def rows_at(self, anchors: int) -> np.ndarray:
        """How many rows there are at each of the anchors, int64."""
        counts = (np.bincount(block.anchors_N[block.anchors_N != _GONE], minlength=anchors) for block in self._blocks)
        total = np.zeros(anchors, np.int64)
        for count in counts:
            total += count
        return total


@dataclass(frozen=True, eq=False)
class _Block:
    """Rows sorted by the first eight bytes of the sample's hash.

    Attributes:
        first_N, rest_N24: uint64 and uint8, the keyed hash of the sample.
        subjects_S, by_subject_S: uint64 and uint32, of the rows that have a subject: the first eight bytes of its keyed
            hash, sorted, and the rows' positions.
        second_N: uint64, the next eight bytes of it. Sixteen bytes tell subjects apart: two of 2^32 share them with a
            probability of 2^-65.
        anchors_N: int32, nearest anchors; -1 for a row that was removed.
        bits_N: uint64.
    """

    first_N: np.ndarray
    rest_N24: np.ndarray
    subjects_S: np.ndarray
    by_subject_S: np.ndarray
    second_N: np.ndarray
    anchors_N: np.ndarray
    bits_N: np.ndarray

    @staticmethod
    def of(parts: Iterable[SegmentIndex], rows: int) -> _Block:
        """The rows of these parts, so many in all."""
        columns = [np.empty((rows, *column.shape[1:]), column.dtype) for column in _NO_COLUMNS]
        start = 0
        for part in parts:
            for column, values in zip(columns, _columns_of(part), strict=True):
                column[start : start + len(part)] = values
            start += len(part)
        return _Block._sorted(columns)

    @staticmethod
    def merged(blocks: Sequence[_Block]) -> _Block:
        """One block of those of their rows that were not removed."""
        parts = (block._columns() for block in blocks)
        return _Block._sorted([np.concatenate(column) for column in zip(*parts, strict=True)])

    def _columns(self) -> tuple[np.ndarray, ...]:
        """The columns of the rows that were not removed, as :func:`_columns_of` gives them."""
        subjects_N = np.zeros(len(self), np.uint64)
        subjects_N[self.by_subject_S] = self.subjects_S
        columns = (self.first_N, self.rest_N24, subjects_N, self.second_N, self.anchors_N, self.bits_N)
        kept_N = self.anchors_N != _GONE
        return tuple(column[kept_N] for column in columns)

    @staticmethod
    def _sorted(columns: list[np.ndarray]) -> _Block:
        """The block of these columns, which the list loses one by one, so that few are in memory twice."""
        order = np.argsort(columns[0], kind="stable").astype(np.uint32)
        first_N, rest_N24, subjects_N, second_N, anchors_N, bits_N = (columns.pop(0)[order] for _ in range(6))
        having = np.flatnonzero(subjects_N | second_N).astype(np.uint32)
        by_subject_S = having[np.argsort(subjects_N[having], kind="stable")]
        return _Block(first_N, rest_N24, subjects_N[by_subject_S], by_subject_S, second_N, anchors_N, bits_N)

    def __len__(self) -> int:
        return len(self.first_N)

    def rows(self, positions: np.ndarray) -> Rows:
        first = self.first_N[positions].astype(">u8").view(np.uint8).reshape(-1, 8)
        samples_R32 = np.concatenate([first, self.rest_N24[positions]], axis=1)
        return Rows(samples_R32, self.anchors_N[positions], self.bits_N[positions])

    def of_samples(self, wanted_M32: np.ndarray) -> np.ndarray:
        """The positions of the rows whose samples have these hashes, and that were not removed."""
        first_M, rest_M24 = _split(wanted_M32, 8)
        start_M = np.searchsorted(self.first_N, first_M)
        parts = []
        # Hashes that share their first eight bytes are next to each other.
        pending = np.arange(len(first_M))
        while len(pending):
            pending = pending[start_M[pending] < len(self)]
            pending = pending[self.first_N[start_M[pending]] == first_M[pending]]
            positions = start_M[pending]
            same = (self.rest_N24[positions] == rest_M24[pending]).all(axis=1) & (self.anchors_N[positions] != _GONE)
            parts.append(positions[same])
            start_M[pending] += 1
        return np.concatenate([np.zeros(0, np.int64), *parts])

    def of_subjects(self, wanted_M32: np.ndarray) -> np.ndarray:
        """The positions of the rows whose subjects have these hashes, and that were not removed."""
        return np.concatenate([np.zeros(0, np.int64), *self._each_subject(wanted_M32)])

    def rows_of_each(self, wanted_M32: np.ndarray) -> np.ndarray:
        """How many rows each of these subjects has, int64 [M]."""
        return np.array([len(positions) for positions in self._each_subject(wanted_M32)], np.int64)

    def _each_subject(self, wanted_M32: np.ndarray) -> Iterator[np.ndarray]:
        first_M, rest_M24 = _split(wanted_M32, 8)
        second_M = _split(rest_M24, 8)[0]
        starts_M, ends_M = np.searchsorted(self.subjects_S, first_M), np.searchsorted(self.subjects_S, first_M, "right")
        for start, end, second in zip(starts_M, ends_M, second_M, strict=True):
            positions = self.by_subject_S[start:end]
            same = (self.second_N[positions] == second) & (self.anchors_N[positions] != _GONE)
            yield positions[same].astype(np.int64)


def _columns_of(part: SegmentIndex) -> tuple[np.ndarray, ...]:
    """The columns of a block, in their order."""
    first_N, rest_N24 = _split(part.samples_N32, 8)
    subject_first_N, subject_rest_N24 = _split(part.subjects_N32, 8)
    return first_N, rest_N24, subject_first_N, _split(subject_rest_N24, 8)[0], part.anchors_N, part.bits_N


_NO_COLUMNS = (
    np.zeros(0, np.uint64),
    np.zeros((0, 24), np.uint8),
    np.zeros(0, np.uint64),
    np.zeros(0, np.uint64),
    np.zeros(0, np.int32),
    np.zeros(0, np.uint64),
)


def _split(hashes: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first bytes as integers, uint64, and the rest."""
    first = np.ascontiguousarray(hashes[:, :count]).view(">u8").reshape(-1).astype(np.uint64)
    return first, np.ascontiguousarray(hashes[:, count:])
