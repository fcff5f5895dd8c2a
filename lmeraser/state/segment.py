"""Segments: the objects that hold a cluster's rows, each with an index that names no id in clear.

A segment is two objects: a Parquet file of rows, and an index of the same rows in the same order. The index is a
function of the rows, so its digest also covers them; it has all that partition, coreset and digests need, so images
are read only to tune a prompt or to embed rows. How a cluster's rows are cut into segments is not part of the state.

Legend: N rows, H head features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from lmeraser.hashing import HashKey, sample_hash, subject_hash
from lmeraser.learning.coreset import coreset, coreset_hashes
from lmeraser.state.digests import state_leaf
from lmeraser.state.hash_arrays import as_hashes, as_strings, from_hex
from lmeraser.state.layout import segment_rows_part
from lmeraser.state.rows import RowTable, rows_digest
from lmeraser.state.tensors import TensorObject

# A segment is full at whichever comes first.
MAX_SEGMENT_ROWS = 512
MAX_SEGMENT_BYTES = 8 * 2**20


@dataclass(frozen=True)
class SegmentIndex(TensorObject):
    """What the system needs of rows besides images, features and ids.

    Attributes:
        samples_N32: uint8, the keyed hash of each sample id.
        subjects_N32: uint8, the keyed hash of each subject id; zero for a row without a subject.
        labels_N: int64, index into the declared labels.
        anchors_N: int32, nearest anchors.
        bits_N: uint64, the bits that divide the rows below an anchor.
        coreset_N: uint64, the hashes by which the coreset is drawn.
        digests_N32: uint8, SHA-256 of each row.
        contents_N32: uint8, SHA-256 of each row's sample id and image.
    """

    samples_N32: np.ndarray
    subjects_N32: np.ndarray
    labels_N: np.ndarray
    anchors_N: np.ndarray
    bits_N: np.ndarray
    coreset_N: np.ndarray
    digests_N32: np.ndarray
    contents_N32: np.ndarray

    @staticmethod
    def of(table: RowTable, seed: int, hash_key: HashKey) -> SegmentIndex:
        """The index of these rows."""
        no_subject = "00" * 32
        subjects = (no_subject if name is None else subject_hash(hash_key, name) for name in table.subject_ids)
        return SegmentIndex(
            from_hex(sample_hash(hash_key, name) for name in table.sample_ids),
            from_hex(subjects),
            table.labels_N,
            table.anchors_N,
            table.bits(seed),
            coreset_hashes(seed, table.sample_ids),
            as_hashes(table.row_digests()),
            as_hashes(table.contents()),
        )

    @staticmethod
    def joined(parts: Sequence[SegmentIndex]) -> SegmentIndex:
        """The rows of all parts, at least one, in their order."""
        names = [each.name for each in fields(SegmentIndex)]
        return SegmentIndex(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def between(self, start: int, end: int) -> SegmentIndex:
        """The rows from ``start`` up to ``end``."""
        return SegmentIndex(*(column[start:end] for column in self.tensors().values()))

    def __len__(self) -> int:
        return len(self.labels_N)

    def tensors(self) -> dict[str, np.ndarray]:
        """The columns by name."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray]) -> Self:
        """The index from its columns. Raises KeyError when one is missing."""
        return cls(*(tensors[each.name] for each in fields(cls)))

    def at(self, positions: np.ndarray) -> SegmentIndex:
        """The rows at these positions, in that order, or those that a mask selects."""
        return SegmentIndex(*(column[positions] for column in self.tensors().values()))

    def among(self, hashes_M32: np.ndarray) -> np.ndarray:
        """Which rows' samples have one of these keyed hashes, uint8 [M, 32]; bool [N]."""
        return np.isin(as_strings(self.samples_N32), as_strings(hashes_M32))

    def rows_digest(self) -> str:
        """See :func:`lmeraser.state.rows.rows_digest`."""
        return rows_digest(self.digests_N32)

    def coreset(self, size: int) -> np.ndarray:
        """Positions of the rows of the coreset, ascending."""
        return coreset(self.coreset_N, self.labels_N, size)

    def coreset_digest(self, size: int) -> str:
        """SHA-256 over the digests of the coreset's rows, sorted."""
        return rows_digest(self.digests_N32[self.coreset(size)])

    def coreset_contents_digest(self, size: int) -> str:
        """SHA-256 over all that a tuning reads of the coreset's rows: ids, images, and which rows share a class.

        Labels enter by their rank among those of the coreset, as they do in a tuning: it stays the same where labels
        are added or renamed.
        """
        coreset = self.coreset(size)
        classes = np.unique(self.labels_N[coreset], return_inverse=True)[1].tolist()
        rows = (
            content.tobytes() + f"{rank:08x}".encode()
            for content, rank in zip(self.contents_N32[coreset], classes, strict=True)
        )
        return hashlib.sha256(b"".join(sorted(rows))).hexdigest()


def bytes_leaf(hash_key: HashKey, key: str, data: bytes) -> str:
    """The keyed digest of the object of a segment's rows in the cluster ``key``."""
    return state_leaf(hash_key, segment_rows_part(key), hashlib.sha256(data).hexdigest())


def is_small(rows: int, size: int) -> bool:
    """Whether a segment with this number of rows and bytes is at most half full."""
    return 2 * rows <= MAX_SEGMENT_ROWS and 2 * size <= MAX_SEGMENT_BYTES


def size_of(table: RowTable) -> int:
    """Bytes of the rows' images and features."""
    return sum(map(len, table.images)) + table.features_NH.nbytes


def pieces(table: RowTable) -> Iterator[RowTable]:
    """The rows in tables that each fit into a segment; a row that is larger than one gets a table of its own."""
    start, size = 0, 0
    features_bytes = 2 * table.features_NH.shape[1]
    for row, image in enumerate(table.images):
        row_bytes = len(image) + features_bytes
        if row > start and (row - start == MAX_SEGMENT_ROWS or size + row_bytes > MAX_SEGMENT_BYTES):
            yield table.between(start, row)
            start, size = row, 0
        size += row_bytes
    if start < len(table):
        yield table.between(start, len(table))


def prompted_digest(digests_N32: np.ndarray, features_NH: np.ndarray) -> str:
    """SHA-256 over prompted features, int16 [N, H], in the order of the rows' digests, uint8 [N, 32]."""
    order = np.argsort(as_strings(digests_N32), kind="stable")
    features = np.ascontiguousarray(features_NH[order].astype("<i2", copy=False))
    content = np.concatenate([digests_N32[order], features.view(np.uint8).reshape(len(order), -1)], axis=1)
    return hashlib.sha256(content.tobytes()).hexdigest()
