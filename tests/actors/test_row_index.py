"""The index of rows, against a dictionary of the same rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.row_index import NO_ROWS, RowIndex, Rows
from lmeraser.state.segment import SegmentIndex

# Few values, so that rows share subjects, anchors and the first eight bytes of their hashes.
NUMBERS = st.integers(0, 11)
SUBJECTS = st.none() | st.integers(0, 3)


def sample(number: int) -> str:
    return f"{number % 3:016x}" + hashlib.sha256(str(number).encode()).hexdigest()[:48]


def subject(number: int | None) -> str:
    return "00" * 32 if number is None else f"{1:016x}{number:016x}" + "77" * 16


def part_of(rows: dict[int, tuple[int | None, int]]) -> SegmentIndex:
    """An index of rows by their numbers, each with its subject and anchor."""
    count = len(rows)

    def column(hashes: Iterable[str]) -> np.ndarray:
        return np.frombuffer(bytes.fromhex("".join(hashes)), np.uint8).reshape(-1, 32)

    return SegmentIndex(
        column(map(sample, rows)),
        column(subject(who) for who, _ in rows.values()),
        np.zeros(count, np.int64),
        np.array([anchor for _, anchor in rows.values()], np.int32),
        np.array([number << 60 for number in rows], np.uint64),
        np.zeros(count, np.uint64),
        np.zeros((count, 32), np.uint8),
        np.zeros((count, 32), np.uint8),
    )


@dataclass
class Truth:
    """The rows, by their numbers."""

    rows: dict[int, tuple[int | None, int]] = field(default_factory=dict)

    def check(self, index: RowIndex) -> None:
        assert len(index) == len(self.rows)
        assert sorted(index.of_samples(map(sample, range(12))).hashes()) == sorted(map(sample, self.rows))
        for who in range(4):
            of_subject = [number for number, (other, _) in self.rows.items() if other == who]
            assert sorted(index.of_subjects([subject(who)]).hashes()) == sorted(map(sample, of_subject))
            assert index.subjects_with_rows([subject(who)]) == ([subject(who)] if of_subject else [])
        anchors = [anchor for _, anchor in self.rows.values()]
        assert index.rows_at(5).tolist() == [anchors.count(anchor) for anchor in range(5)]


CHANGES = st.lists(
    st.dictionaries(NUMBERS, st.tuples(SUBJECTS, st.integers(0, 4)), max_size=6) | st.lists(NUMBERS, max_size=5),
    max_size=8,
)


@settings(deadline=None)
@given(CHANGES)
def test_rows_are_found_by_sample_and_by_subject_after_any_changes(
    changes: list[dict[int, tuple[int | None, int]] | list[int]],
) -> None:
    index, truth = RowIndex(), Truth()
    for change in changes:
        if isinstance(change, list):
            removed = index.of_samples(map(sample, set(change)))
            index.remove(removed)
            truth.rows = {number: row for number, row in truth.rows.items() if number not in change}
        else:
            new = {number: row for number, row in change.items() if number not in truth.rows}
            index.add([part_of(new)])
            truth.rows |= new
        truth.check(index)


def test_rows_come_with_their_anchors_and_bits() -> None:
    rows = RowIndex([part_of({3: (1, 4), 5: (None, 2)})], 2).of_samples([sample(5), sample(3), sample(9)])
    found = dict(zip(rows.hashes(), zip(rows.anchors_R.tolist(), rows.bits_R.tolist(), strict=True), strict=True))
    assert found == {sample(3): (4, 3 << 60), sample(5): (2, 5 << 60)}


def test_a_row_that_is_named_twice_is_one_row() -> None:
    index = RowIndex([part_of({3: (1, 4)})], 1)
    assert len(Rows.joined([index.of_samples([sample(3)]), index.of_subjects([subject(1)])])) == 1


def test_bits_at_an_anchor_leave_out_rows_that_go() -> None:
    index = RowIndex([part_of({1: (None, 0), 2: (None, 0), 3: (None, 1)})], 3)
    assert sorted(index.bits_at(0, NO_ROWS).tolist()) == [1 << 60, 2 << 60]
    assert index.bits_at(0, index.of_samples([sample(1)])).tolist() == [2 << 60]


def test_a_row_takes_at_most_a_hundred_bytes() -> None:
    generator = np.random.default_rng(0)
    count = 20_000
    hashes_N32 = generator.integers(0, 256, (count, 32), np.uint8)
    numbers = np.arange(count)
    index = RowIndex(
        [
            SegmentIndex(
                hashes_N32,
                hashes_N32,
                numbers,
                numbers.astype(np.int32),
                numbers.astype(np.uint64),
                numbers.astype(np.uint64),
                hashes_N32,
                hashes_N32,
            )
        ],
        count,
    )
    (block,) = index._blocks
    size = sum(column.nbytes for column in vars(block).values())
    assert len(index) == count and size / count <= 100
