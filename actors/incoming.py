"""Rows that were put under a prefix and wait to be added."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from actors.history import History
from lmeraser.errors import ErasedRowError
from lmeraser.keys import HashKey
from lmeraser.receipts import sample_hash, subject_hash
from lmeraser.rows import RowTable


@dataclass(frozen=True)
class Incoming:
    """One ingest: where its row objects lie, whether it may bring back erased rows, and how many rows it added."""

    prefix: str
    force: bool
    rows: Future[int] = field(default_factory=Future)


def refuse_erased(tables: Sequence[RowTable], history: History, hash_key: HashKey) -> None:
    """Check that no row, and no row's subject, was erased before. Raises ErasedRowError."""
    for table in tables:
        for sample_id, subject_id in zip(table.sample_ids, table.subject_ids, strict=True):
            hashes = {sample_hash(hash_key, sample_id), subject_hash(hash_key, subject_id)}
            if not hashes.isdisjoint(history.erased_hashes):
                raise ErasedRowError(
                    f"sample {sample_id!r} of subject {subject_id!r} was erased before; "
                    "ingest it with --force only if its owner agreed again"
                )
