"""Which rows the system holds: derived from the row objects, and never stored.

Requested ids are compared by :func:`lmeraser.ids.comparable`; results are the ids as the rows have them.

Legend: N rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lmeraser.errors import DuplicateSampleError
from lmeraser.hashing import HashKey, row_hashes
from lmeraser.ids import comparable
from lmeraser.state.rows import RowTable


@dataclass(frozen=True)
class RowIndex:
    """Ids, anchors and bits of all rows.

    Attributes:
        sample_ids: N ids, as the rows have them.
        subject_ids: N ids; None for a row that has no subject.
        anchors_N: int32, nearest anchors.
        bits_N: uint64, hashes that divide the rows below an anchor.
    """

    sample_ids: tuple[str, ...]
    subject_ids: tuple[str | None, ...]
    anchors_N: np.ndarray
    bits_N: np.ndarray

    @staticmethod
    def of(tables: Iterable[RowTable], seed: int) -> RowIndex:
        """The index of the rows in the tables.

        Raises:
            DuplicateSampleError: when a sample id is repeated.
        """
        return RowIndex.joining(_of_table(table, seed) for table in tables)

    @staticmethod
    def joining(parts: Iterable[RowIndex]) -> RowIndex:
        """One index of all parts.

        Raises:
            DuplicateSampleError: when a sample id is repeated.
        """
        parts = [RowIndex((), (), np.zeros(0, np.int32), np.zeros(0, np.uint64)), *parts]
        index = RowIndex(
            tuple(name for part in parts for name in part.sample_ids),
            tuple(name for part in parts for name in part.subject_ids),
            np.concatenate([part.anchors_N for part in parts]),
            np.concatenate([part.bits_N for part in parts]),
        )
        if len(index._position) != len(index.sample_ids):
            counted = Counter(map(comparable, index.sample_ids))
            repeated = next(name for name in index.sample_ids if counted[comparable(name)] > 1)
            raise DuplicateSampleError(f"sample id {repeated!r} occurs more than once")
        return index

    def __len__(self) -> int:
        return len(self.sample_ids)

    def __contains__(self, sample_id: str) -> bool:
        return comparable(sample_id) in self._position

    def present(self, sample_ids: Iterable[str]) -> tuple[str, ...]:
        """Those of the sample ids that are in the index."""
        positions = (self._position.get(comparable(name)) for name in sample_ids)
        return tuple(self.sample_ids[position] for position in positions if position is not None)

    def of_subject(self, subject_id: str) -> tuple[str, ...]:
        """The sample ids of one subject's rows."""
        return self._by_subject.get(comparable(subject_id), ())

    def subjects(self) -> Iterable[str]:
        """All subjects, each once."""
        return self._by_subject.keys()

    def named_by(self, hashes: Collection[str], hash_key: HashKey) -> list[str]:
        """The sample ids whose keyed hash, or whose subject's keyed hash, is among these."""
        return [
            sample_id
            for sample_id, subject_id in zip(self.sample_ids, self.subject_ids, strict=True)
            if not row_hashes(hash_key, sample_id, subject_id).isdisjoint(hashes)
        ]

    def without(self, erased: Collection[str]) -> RowIndex:
        """The index without these rows."""
        keep_N = np.ones(len(self), bool)
        keep_N[self._positions(erased)] = False
        return self._at(np.flatnonzero(keep_N))

    def only(self, sample_ids_to_keep: Collection[str]) -> RowIndex:
        """The index of these rows alone; ids that are not in the index are ignored."""
        return self._at(self._positions(sample_ids_to_keep))

    def joined(self, other: RowIndex) -> RowIndex:
        """The index of both.

        Raises:
            DuplicateSampleError: when a sample id is in both.
        """
        repeated = next((name for name in other.sample_ids if name in self), None)
        if repeated is not None:
            raise DuplicateSampleError(f"sample id {repeated!r} is in the store already")
        return RowIndex(
            self.sample_ids + other.sample_ids,
            self.subject_ids + other.subject_ids,
            np.concatenate([self.anchors_N, other.anchors_N]),
            np.concatenate([self.bits_N, other.bits_N]),
        )

    def _positions(self, sample_ids: Iterable[str]) -> np.ndarray:
        """The positions of these rows, ascending; ids that are not in the index are ignored."""
        positions = {self._position.get(comparable(name)) for name in sample_ids}
        return np.array(sorted(position for position in positions if position is not None), np.int64)

    @cached_property
    def _position(self) -> dict[str, int]:
        return {comparable(name): row for row, name in enumerate(self.sample_ids)}

    @cached_property
    def _by_subject(self) -> dict[str, tuple[str, ...]]:
        by_subject: dict[str, list[str]] = {}
        for sample_id, subject_id in zip(self.sample_ids, self.subject_ids, strict=True):
            if subject_id is not None:
                by_subject.setdefault(comparable(subject_id), []).append(sample_id)
        return {subject_id: tuple(names) for subject_id, names in by_subject.items()}

    def _at(self, positions: np.ndarray) -> RowIndex:
        return RowIndex(
            tuple(self.sample_ids[row] for row in positions),
            tuple(self.subject_ids[row] for row in positions),
            self.anchors_N[positions],
            self.bits_N[positions],
        )


def _of_table(table: RowTable, seed: int) -> RowIndex:
    return RowIndex(table.sample_ids, table.subject_ids, table.anchors_N, table.bits(seed))
