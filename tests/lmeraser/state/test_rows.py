"""Row tables: one Parquet file and back, and a digest that hangs on the rows and on nothing else."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from row_tables import ROWS, WIDTH, Row, some_rows, table, unhurried

from lmeraser.data import Sample
from lmeraser.errors import ObjectCorruptError
from lmeraser.state.rows import RowTable


def rows_of(found: RowTable) -> list[Row]:
    return [
        (
            found.sample_ids[place],
            found.subject_ids[place],
            int(found.labels_N[place]),
            found.images[place],
            int(found.anchors_N[place]),
            tuple(found.features_NH[place].tolist()),
        )
        for place in range(len(found))
    ]


def written_with(found: RowTable, **options: Any) -> bytes:
    """The same table as another Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(pq.read_table(io.BytesIO(found.to_parquet())), buffer, **options)
    return buffer.getvalue()


@pytest.mark.slow
@unhurried
@given(ROWS)
def test_rows_survive_parquet(rows: list[Row]) -> None:
    again = RowTable.from_parquet(table(rows).to_parquet(), "rows/00")
    assert rows_of(again) == rows
    assert again.features_NH.shape == (len(rows), WIDTH)
    kinds = [array.dtype.str for array in (again.labels_N, again.anchors_N, again.features_NH)]
    assert kinds == ["<i8", "<i4", "<i2"]
    assert again.digest() == table(rows).digest()


def test_a_row_file_is_a_parquet_file_that_others_can_read() -> None:
    found = pq.read_table(io.BytesIO(table(some_rows(3)).to_parquet())).to_pylist()
    assert [tuple(row[name] for name in ("sample_id", "subject_id", "label", "image", "anchor")) for row in found] == [
        row[:5] for row in some_rows(3)
    ]
    assert [tuple(row["features"]) for row in found] == [row[5] for row in some_rows(3)]


def test_two_files_of_one_table_may_differ_but_not_its_digest() -> None:
    original = table(some_rows(40))
    files = {
        original.to_parquet(),
        written_with(original, compression="zstd"),
        written_with(original, compression="none", use_dictionary=True),
        written_with(original, row_group_size=9),
    }
    assert len(files) == 4
    assert {RowTable.from_parquet(data, "rows/00").digest() for data in files} == {original.digest()}
    for data in files:
        assert rows_of(RowTable.from_parquet(data, "rows/00")) == some_rows(40)


@unhurried
@given(ROWS, st.data())
def test_the_order_of_arrival_does_not_matter(rows: list[Row], data: st.DataObject) -> None:
    arrival = data.draw(st.permutations(rows))
    cut = data.draw(st.integers(0, len(rows)))
    parts = [table(arrival[:cut]), table([]), table(arrival[cut:])]
    together = RowTable.concatenate(parts, WIDTH)
    assert rows_of(together) == sorted(rows)
    assert together.digest() == RowTable.concatenate([table(rows)], WIDTH).digest()


def test_no_tables_concatenate_to_an_empty_table_of_the_given_width() -> None:
    for parts in ([], [table([]), table([])]):
        empty = RowTable.concatenate(parts, 9)
        assert len(empty) == 0
        assert empty.features_NH.shape == (0, 9)
        assert RowTable.from_parquet(empty.to_parquet(), "rows/00").features_NH.shape == (0, 9)


def test_tables_may_come_from_a_generator() -> None:
    rows = some_rows()
    together = RowTable.concatenate((table([row]) for row in reversed(rows)), WIDTH)
    assert rows_of(together) == rows


@pytest.mark.slow
@unhurried
@given(ROWS, st.data())
def test_where_keeps_the_selected_rows_in_their_order(rows: list[Row], data: st.DataObject) -> None:
    keep = data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
    kept = table(rows).where(np.array(keep, bool))
    assert rows_of(kept) == [row for row, wanted in zip(rows, keep, strict=True) if wanted]
    assert kept.features_NH.shape[1] == WIDTH


def test_rows_that_were_removed_and_added_again_give_the_same_digest() -> None:
    original = table(some_rows())
    mask = np.array([True, False, True, True, False, False, True])
    parts = [original.where(~mask), original.where(mask)]
    assert parts[0].digest() != original.digest()
    assert RowTable.concatenate(parts, WIDTH).digest() == original.digest()


def test_a_digest_depends_on_every_column_of_every_row() -> None:
    original = table(some_rows(4))
    changed = [original, original.where(np.array([True, True, True, False]))]
    for place in range(4):
        ids, subjects, images = list(original.sample_ids), list(original.subject_ids), list(original.images)
        labels, anchors, features = original.labels_N.copy(), original.anchors_N.copy(), original.features_NH.copy()
        ids[place] += "x"
        subjects[place] = f"{subjects[place]}x"
        images[place] += b"x"
        labels[place] += 1
        anchors[place] += 1
        features[place, -1] += 1
        changed += [
            replace(original, sample_ids=tuple(ids)),
            replace(original, subject_ids=tuple(subjects)),
            replace(original, images=tuple(images)),
            replace(original, labels_N=labels),
            replace(original, anchors_N=anchors),
            replace(original, features_NH=features),
        ]
    digests = [each.digest() for each in changed]
    assert len(set(digests)) == len(digests) == 26


def test_a_row_without_a_subject_has_another_digest_than_one_with_an_empty_or_misleading_subject() -> None:
    digests = {table([("s", person, 0, b"", 0, (0,) * 5)]).digest() for person in (None, "", "s", "None", "null")}
    assert len(digests) == 5


def test_a_digest_depends_on_which_row_has_which_image() -> None:
    original = table(some_rows(3))
    swapped = replace(original, images=original.images[::-1])
    # The same bytes one after the other, cut elsewhere.
    shifted = replace(original, images=(b"", b"\x01\x02", b"\x02"))
    assert b"".join(shifted.images) == b"".join(original.images)
    assert len({original.digest(), swapped.digest(), shifted.digest()}) == 3


def test_a_digest_does_not_depend_on_the_byte_order_in_memory() -> None:
    original = table(some_rows())
    big = replace(original, features_NH=original.features_NH.astype(">i2"), labels_N=original.labels_N.astype(">i8"))
    assert big.digest() == original.digest()


@pytest.mark.parametrize("length", [0, 1, 3, 4, 8, 100, -1, -4, -8, -100])
def test_a_truncated_file_is_refused_and_named(length: int) -> None:
    data = table(some_rows()).to_parquet()
    with pytest.raises(ObjectCorruptError, match="rows/ab/cd"):
        RowTable.from_parquet(data[:length], "rows/ab/cd")


def test_a_file_whose_footer_was_changed_is_refused_and_named() -> None:
    data = bytearray(table(some_rows()).to_parquet())
    footer = int.from_bytes(data[-8:-4], "little")
    data[-8 - footer : -8] = bytes(footer)
    with pytest.raises(ObjectCorruptError, match="rows/ab/cd"):
        RowTable.from_parquet(bytes(data), "rows/ab/cd")


@pytest.mark.parametrize("column", ["sample_id", "subject_id", "label", "image", "anchor", "features"])
def test_a_parquet_file_that_lacks_a_column_is_refused_and_named(column: str) -> None:
    buffer = io.BytesIO()
    pq.write_table(pq.read_table(io.BytesIO(table(some_rows()).to_parquet())).drop_columns(column), buffer)
    with pytest.raises(ObjectCorruptError, match=column) as caught:
        RowTable.from_parquet(buffer.getvalue(), "rows/ab/cd")
    assert "rows/ab/cd" in str(caught.value)


def test_features_of_uneven_length_are_refused() -> None:
    found = pq.read_table(io.BytesIO(table(some_rows(2)).to_parquet()))
    uneven = found.set_column(5, "features", pa.array([[1, 2], [3]], pa.list_(pa.int16())))
    buffer = io.BytesIO()
    pq.write_table(uneven, buffer)
    with pytest.raises(ObjectCorruptError, match="rows/ab/cd"):
        RowTable.from_parquet(buffer.getvalue(), "rows/ab/cd")


@pytest.mark.filterwarnings("error")
def test_a_flipped_bit_gives_no_file_or_a_table_of_the_right_types() -> None:
    original = table(some_rows(2))
    data = original.to_parquet()
    found = set()
    for place in range(len(data)):
        flipped = bytearray(data)
        flipped[place] ^= 0x80
        try:
            again = RowTable.from_parquet(bytes(flipped), "rows/00")
        except ObjectCorruptError:
            found.add("refused")
        else:
            kinds = [array.dtype.str for array in (again.labels_N, again.anchors_N, again.features_NH)]
            assert kinds == ["<i8", "<i4", "<i2"]
            found.add("equal" if again.digest() == original.digest() else "another digest")
    assert found == {"refused", "equal", "another digest"}


def test_a_traceback_quotes_no_row() -> None:
    rows: list[Row] = [("secret-sample", "secret-subject", 1, b"secret-image", 2, (1, 2, 3, 4, 5))]
    for shown in (repr(table(rows)), repr(Sample("secret-sample", "secret-subject", 1, b"secret-image"))):
        assert "secret" not in shown
