"""Rows: the only form in which private images are stored.

Legend: N rows, H head features.
"""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lmeraser.errors import ObjectCorruptError
from lmeraser.hashing import canonical_json, row_bits
from lmeraser.learning.coreset import coreset, coreset_hashes
from lmeraser.state.hash_arrays import as_hashes, as_strings

_NULLABLE = "subject_id"


def _schema(width: int) -> pa.Schema:
    columns = {"sample_id": pa.string(), "subject_id": pa.string(), "label": pa.int64(), "image": pa.binary()}
    return pa.schema({**columns, "anchor": pa.int32(), "features": pa.list_(pa.int16(), width)})


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name}: {field.type}" for field in schema)


# No repr: what a traceback or a log line quotes must not contain a row.
@dataclass(frozen=True, repr=False)
class RowTable:
    """Rows sorted by sample id.

    Attributes:
        sample_ids: N ids, distinct.
        subject_ids: N ids of the persons that the rows are about, or None.
        labels_N: int64, index into the declared labels.
        images: N encoded images, unchanged.
        anchors_N: int32, the anchor nearest to the image.
        features_NH: int16, head features on the grid, under the public prompt, or under none where the store has none.
    """

    sample_ids: tuple[str, ...]
    subject_ids: tuple[str | None, ...]
    labels_N: np.ndarray
    images: tuple[bytes, ...]
    anchors_N: np.ndarray
    features_NH: np.ndarray

    def __len__(self) -> int:
        return len(self.sample_ids)

    def where(self, keep_N: np.ndarray) -> RowTable:
        """The rows that the mask selects, in the same order."""
        return self.at(np.flatnonzero(keep_N))

    def bits(self, seed: int) -> np.ndarray:
        """The bits that divide the rows below an anchor, uint64."""
        bits = map(row_bits, itertools.repeat(seed), self.sample_ids, self.subject_ids)
        return np.fromiter(bits, np.uint64, len(self))

    def coreset(self, seed: int, size: int) -> RowTable:
        """The rows that the prompt of a cluster with these rows is tuned on, at most ``size``."""
        return self.at(coreset(coreset_hashes(seed, self.sample_ids), self.labels_N, size))

    def between(self, start: int, end: int) -> RowTable:
        """The rows from ``start`` up to ``end``."""
        return self.at(np.arange(start, end))

    def digest(self) -> str:
        """See :func:`rows_digest`."""
        return rows_digest(as_hashes(self.row_digests()))

    def row_digests(self) -> list[bytes]:
        """SHA-256 over the content of each row."""
        return [hashlib.sha256(b"".join(self._content(row))).digest() for row in range(len(self))]

    def contents(self) -> list[bytes]:
        """SHA-256 over the sample id and the image of each row, which no configuration changes."""
        return [
            hashlib.sha256(canonical_json([name, len(image)]) + image).digest()
            for name, image in zip(self.sample_ids, self.images, strict=True)
        ]

    def to_parquet(self) -> bytes:
        """The table as a Parquet file."""
        features = pa.FixedSizeListArray.from_arrays(self.features_NH.reshape(-1), self.features_NH.shape[1])
        columns = (self.sample_ids, self.subject_ids, self.labels_N, self.images, self.anchors_N, features)
        schema = _schema(self.features_NH.shape[1])
        table = pa.table([pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema)
        buffer = io.BytesIO()
        # Images are compressed already, and dictionary pages would write ids a second time.
        pq.write_table(table, buffer, compression="none", use_dictionary=False, write_statistics=False)
        return buffer.getvalue()

    @staticmethod
    def from_parquet(data: bytes, name: str) -> RowTable:
        """Read what :meth:`to_parquet` wrote; ``name`` is for the message.

        Raises:
            ObjectCorruptError: when the bytes are not such a file.
        """
        try:
            table = pq.read_table(pa.BufferReader(data)).combine_chunks()
            features = table.column("features").combine_chunks()
            width = features.type.list_size
            entries = features.flatten()
            needed = [
                column for name, column in zip(table.column_names, table.columns, strict=True) if name != _NULLABLE
            ]
            nulls = entries.null_count + sum(column.null_count for column in needed)
            if nulls or table.schema.remove_metadata() != _schema(width):
                actual = f"it has {nulls} nulls and the columns {_columns(table.schema)}"
                raise ValueError(
                    f"{actual}; only {_NULLABLE} may be null, and the columns are {_columns(_schema(width))}"
                )
            return RowTable(
                sample_ids=tuple(table.column("sample_id").to_pylist()),
                subject_ids=tuple(table.column("subject_id").to_pylist()),
                labels_N=table.column("label").to_numpy(),
                images=tuple(table.column("image").to_pylist()),
                anchors_N=table.column("anchor").to_numpy(),
                features_NH=entries.to_numpy(zero_copy_only=False).reshape(-1, width),
            )
        except (pa.ArrowException, KeyError, OSError, ValueError, AttributeError) as error:
            raise ObjectCorruptError(f"{name} is not a row file: {error}") from error

    def _content(self, row: int) -> tuple[bytes, bytes, bytes]:
        keys = [self.sample_ids[row], self.subject_ids[row], int(self.labels_N[row]), int(self.anchors_N[row])]
        head = canonical_json([*keys, len(self.images[row])])
        return head, self.images[row], self.features_NH[row].astype("<i2").tobytes()

    def at(self, positions: np.ndarray) -> RowTable:
        """The rows at these positions, in that order."""
        return RowTable(
            sample_ids=tuple(self.sample_ids[row] for row in positions),
            subject_ids=tuple(self.subject_ids[row] for row in positions),
            labels_N=self.labels_N[positions],
            images=tuple(self.images[row] for row in positions),
            anchors_N=self.anchors_N[positions],
            features_NH=self.features_NH[positions],
        )

    @staticmethod
    def concatenate(tables: Iterable[RowTable], head_dim: int) -> RowTable:
        """All rows of the tables, sorted by sample id; ``head_dim`` gives the width when there are none."""
        parts = [part for part in tables if len(part)]
        if not parts:
            return RowTable((), (), np.zeros(0, np.int64), (), np.zeros(0, np.int32), np.zeros((0, head_dim), np.int16))
        together = RowTable(
            sample_ids=tuple(itertools.chain.from_iterable(part.sample_ids for part in parts)),
            subject_ids=tuple(itertools.chain.from_iterable(part.subject_ids for part in parts)),
            labels_N=np.concatenate([part.labels_N for part in parts]),
            images=tuple(itertools.chain.from_iterable(part.images for part in parts)),
            anchors_N=np.concatenate([part.anchors_N for part in parts]),
            features_NH=np.concatenate([part.features_NH for part in parts]),
        )
        return together.at(order_of(parts))


def order_of(tables: Iterable[RowTable]) -> np.ndarray:
    """Where each row of :meth:`RowTable.concatenate` of the tables is among their rows one after the other, int64."""
    names = [name for table in tables for name in table.sample_ids]
    return np.array(sorted(range(len(names)), key=names.__getitem__), np.int64)


def rows_digest(digests_N32: np.ndarray) -> str:
    """SHA-256 over the rows' digests, uint8 [N, 32], sorted: neither their order nor how they are cut matters."""
    return hashlib.sha256(np.sort(as_strings(digests_N32)).tobytes()).hexdigest()
