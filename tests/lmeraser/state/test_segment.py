"""Segments: how rows are cut into them, what an index holds, and digests that do not depend on the cut.

Legend: N rows, H head features.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from row_tables import ROWS, WIDTH, Row, some_rows, table, unhurried

from lmeraser.errors import ObjectCorruptError
from lmeraser.hashing import HashKey, row_bits
from lmeraser.learning.coreset import coreset_hashes
from lmeraser.state.rows import RowTable
from lmeraser.state.segment import SegmentIndex, is_small, pieces, prompted_digest, size_of

SEED = 3
HASH_KEY = HashKey(bytes(range(32)))
SOME_ROWS = st.lists(st.sampled_from(some_rows(12)), min_size=1, unique_by=lambda row: row[0])


def index_of(rows: list[Row] | RowTable) -> SegmentIndex:
    return SegmentIndex.of(rows if isinstance(rows, RowTable) else table(rows), SEED, HASH_KEY)


def keyed(kind: str, name: str) -> bytes:
    """The keyed hash of an id, without the code under test."""
    return hmac.digest(HASH_KEY.secret, json.dumps([kind, name], separators=(",", ":")).encode(), "sha256")


def features_of(rows: list[Row]) -> np.ndarray:
    """Any prompted features, different for each row, int16 [N, H]."""
    drawn = [np.frombuffer(hashlib.sha256(row[0].encode()).digest()[: 2 * WIDTH], "<i2") for row in rows]
    return np.array(drawn, np.int16).reshape(-1, WIDTH)


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of at most four rows or 40 bytes; the features of each row are ten bytes."""
    monkeypatch.setattr("lmeraser.state.segment.MAX_SEGMENT_ROWS", 4)
    monkeypatch.setattr("lmeraser.state.segment.MAX_SEGMENT_BYTES", 40)


@pytest.mark.parametrize(
    ("image_bytes", "lengths"),
    [
        ([], []),
        ([0], [1]),
        ([0] * 4, [4]),
        ([0] * 5, [4, 1]),
        ([0] * 9, [4, 4, 1]),
        # Exactly full, and one byte more.
        ([10, 10, 0], [2, 1]),
        ([10, 11], [1, 1]),
        # A row that is larger than a segment, first, between others and last.
        ([100], [1]),
        ([100, 0], [1, 1]),
        ([0, 100, 0, 0], [1, 1, 2]),
        ([0, 0, 100], [2, 1]),
        ([100, 100], [1, 1]),
    ],
)
@pytest.mark.usefixtures("small_segments")
def test_a_piece_is_full_of_rows_or_of_bytes(image_bytes: list[int], lengths: list[int]) -> None:
    rows: list[Row] = [(f"s{place}", None, 0, bytes(size), 0, (0,) * 5) for place, size in enumerate(image_bytes)]
    cut = list(pieces(table(rows)))
    assert [len(piece) for piece in cut] == lengths
    assert [name for piece in cut for name in piece.sample_ids] == [row[0] for row in rows]
    assert sum(map(size_of, cut)) == size_of(table(rows)) == sum(image_bytes) + 10 * len(rows)


def test_segments_hold_at_most_512_rows_and_8_mib() -> None:
    rows: list[Row] = [(f"s{place}", None, 0, b"", 0, (0,) * 5) for place in range(1025)]
    assert [len(piece) for piece in pieces(table(rows))] == [512, 512, 1]
    large: list[Row] = [(f"s{place}", None, 0, bytes(3 * 2**20), 0, (0,) * 5) for place in range(5)]
    assert [len(piece) for piece in pieces(table(large))] == [2, 2, 1]


@pytest.mark.parametrize(
    ("rows", "size", "small"), [(2, 20, True), (3, 20, False), (2, 21, False), (0, 0, True), (1, 0, True)]
)
@pytest.mark.usefixtures("small_segments")
def test_a_segment_that_is_at_most_half_full_is_small(rows: int, size: int, small: bool) -> None:
    assert is_small(rows, size) == small


@unhurried
@given(ROWS)
def test_an_index_survives_its_file(rows: list[Row]) -> None:
    index = index_of(rows)
    again = SegmentIndex.from_safetensors(index.to_safetensors(), "rows/00/a.ids")
    assert len(again) == len(rows)
    assert again.digest() == index.digest()
    for name, column in index.tensors().items():
        stored = again.tensors()[name]
        assert (stored.dtype, stored.shape) == (column.dtype, column.shape)
        assert np.array_equal(stored, column)


def test_an_index_holds_what_hashing_each_row_gives() -> None:
    rows: list[Row] = [("né", "p1", 2, b"image", 7, (1, 2, 3, 4, 5)), ("b", None, 0, b"", 9, (0,) * 5)]
    index = index_of(rows)
    # "né" is compared, and so hashed, composed.
    composed = hmac.digest(HASH_KEY.secret, '["sample","né"]'.encode(), "sha256")
    assert index.samples_N32.tobytes() == composed + keyed("sample", "b")
    assert index.subjects_N32.tobytes() == keyed("subject", "p1") + bytes(32)
    assert (index.labels_N.tolist(), index.anchors_N.tolist()) == ([2, 0], [7, 9])
    assert index.bits_N.tolist() == [row_bits(SEED, "né", "p1"), row_bits(SEED, "b", None)]
    assert index.coreset_N.tolist() == coreset_hashes(SEED, ["né", "b"]).tolist()
    assert index.digests_N32.tobytes() == b"".join(table(rows).row_digests())


def test_an_index_holds_no_id_in_clear_and_no_image() -> None:
    rows: list[Row] = [("secret-sample", "secret-subject", 1, b"secret-image", 2, (1, 2, 3, 4, 5))]
    assert b"secret" not in index_of(rows).to_safetensors()


def test_an_index_depends_on_every_column_of_its_rows() -> None:
    original = table(some_rows(4))
    ids, subjects, images = list(original.sample_ids), list(original.subject_ids), list(original.images)
    ids[2], subjects[2], images[2] = "x", None, b"x"
    labels_N, anchors_N, features_NH = (
        column.copy() for column in (original.labels_N, original.anchors_N, original.features_NH)
    )
    labels_N[2], anchors_N[2], features_NH[2, -1] = 9, 9, 999
    changed = [
        original,
        original.at(np.array([1, 0, 2, 3])),
        replace(original, sample_ids=tuple(ids)),
        replace(original, subject_ids=tuple(subjects)),
        replace(original, images=tuple(images)),
        replace(original, labels_N=labels_N),
        replace(original, anchors_N=anchors_N),
        replace(original, features_NH=features_NH),
    ]
    assert len({index_of(each).digest() for each in changed}) == len(changed)


@pytest.mark.parametrize("column", index_of(some_rows(2)).tensors())
def test_an_index_that_lacks_a_column_is_refused_and_named(column: str) -> None:
    class Partial(SegmentIndex):
        def tensors(self) -> dict[str, np.ndarray]:
            return {name: values for name, values in super().tensors().items() if name != column}

    partial = Partial(**index_of(some_rows(2)).tensors()).to_safetensors()
    with pytest.raises(ObjectCorruptError, match=f"rows/00/a.ids.*{column}"):
        SegmentIndex.from_safetensors(partial, "rows/00/a.ids")


@unhurried
@given(SOME_ROWS, st.data())
def test_the_digest_of_rows_depends_neither_on_their_order_nor_on_the_cut(rows: list[Row], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(rows))
    at = sorted(data.draw(st.sets(st.integers(0, len(rows)))) | {0, len(rows)})
    parts = [index_of(shuffled[start:end]) for start, end in itertools.pairwise(at)]
    hashed = sorted(hashlib.sha256(b"".join(_content(row))).digest() for row in rows)
    expected = hashlib.sha256(b"".join(hashed)).hexdigest()
    assert SegmentIndex.joined(parts).rows_digest() == index_of(rows).rows_digest() == expected
    assert table(shuffled).digest() == expected


@unhurried
@given(SOME_ROWS)
def test_the_digest_of_rows_depends_on_each_of_them(rows: list[Row]) -> None:
    digests = {index_of([*rows[:place], *rows[place + 1 :]]).rows_digest() for place in range(len(rows))}
    assert len(digests | {index_of(rows).rows_digest()}) == len(rows) + 1


@unhurried
@given(SOME_ROWS, st.data())
def test_the_digest_of_prompted_features_does_not_depend_on_the_order_of_rows(
    rows: list[Row], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(rows))
    expected = hashlib.sha256()
    hashed = {hashlib.sha256(b"".join(_content(row))).digest(): row for row in rows}
    for digest in sorted(hashed):
        expected.update(digest + features_of([hashed[digest]]).astype("<i2").tobytes())
    for order in (rows, shuffled):
        assert prompted_digest(index_of(order).digests_N32, features_of(order)) == expected.hexdigest()


def test_the_digest_of_prompted_features_says_whose_they_are() -> None:
    rows = some_rows(3)
    digests_N32, features_NH = index_of(rows).digests_N32, features_of(rows)
    changed = features_NH.copy()
    changed[1, 2] += 1
    found = {
        prompted_digest(digests_N32, features_NH),
        prompted_digest(digests_N32, changed),
        # The features of two rows are exchanged.
        prompted_digest(digests_N32, features_NH[[1, 0, 2]]),
        prompted_digest(digests_N32[:2], features_NH[:2]),
    }
    assert len(found) == 4
    assert prompted_digest(digests_N32, features_NH.astype(">i2")) in found


def test_rows_are_found_by_the_hash_of_their_sample() -> None:
    index = index_of([(f"s{place}", "p", 0, b"", 0, (0,) * 5) for place in range(3)])

    def found(*hashes: bytes) -> list[bool]:
        among_N = index.among(np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 32))
        assert (among_N.dtype, among_N.shape) == (np.dtype(bool), (3,))
        return list(map(bool, among_N))

    assert found() == [False, False, False]
    assert found(keyed("sample", "s0"), keyed("sample", "s2")) == [True, False, True]
    assert found(keyed("subject", "p"), keyed("sample", "s9")) == [False, False, False]


@unhurried
@given(SOME_ROWS, st.integers(1, 14))
def test_the_digest_of_a_coreset_is_that_of_its_rows(rows: list[Row], size: int) -> None:
    by_class: dict[int, list[Row]] = {}
    for row in sorted(rows, key=_order):
        by_class.setdefault(row[2], []).append(row)
    ranked = [(rank, _order(row), row) for same in by_class.values() for rank, row in enumerate(same)]
    chosen = [row for _, _, row in sorted(ranked)[:size]]
    hashed = sorted(hashlib.sha256(b"".join(_content(row))).digest() for row in chosen)
    assert index_of(rows).coreset_digest(size) == hashlib.sha256(b"".join(hashed)).hexdigest()
    positions = index_of(rows).coreset(size)
    assert positions.tolist() == sorted(place for place, row in enumerate(rows) if row in chosen)


def _content(row: Row) -> tuple[bytes, bytes, bytes]:
    """What the digest of a row is over, for ids in ASCII."""
    sample, subject, label, image, anchor, features = row
    head = json.dumps([sample, subject, label, anchor, len(image)], separators=(",", ":")).encode()
    return head, image, np.array(features, "<i2").tobytes()


def _order(row: Row) -> int:
    drawn = json.dumps([SEED, "coreset", row[0]], separators=(",", ":")).encode()
    return int.from_bytes(hashlib.sha256(drawn).digest()[:8], "big")
