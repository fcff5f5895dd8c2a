"""The objects that an ingest writes below its prefix, before they are added.

``<name>.parquet`` holds rows. Its companion ``<name>.ids``, written before it, is the index of the same rows
(:class:`SegmentIndex`): it tells whether a row is new, or is being erased, without any image, and names no id in clear.
``<run>.sums`` holds the sums over all rows of the objects ``<run>-<number>``. Companions and sums begin with the
SHA-256 of the rest.

Legend: N rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

from lmeraser.errors import ObjectCorruptError
from lmeraser.hashing import HashKey
from lmeraser.learning.heads import Statistics
from lmeraser.state.rows import RowTable
from lmeraser.state.segment import SegmentIndex
from lmeraser.state.tensors import tensors_from_bytes, tensors_to_bytes
from lmeraser.store import Store

ROWS = ".parquet"
COMPANION = ".ids"
SUMS = ".sums"
_DIGEST_BYTES = 32


def put_rows(store: Store, hash_key: HashKey, name: str, table: RowTable, *, seed: int) -> None:
    """Write rows below the prefix of an ingest, as ``<name>.parquet`` with its companion.

    Args:
        store, hash_key: the store's.
        name: begins with the prefix.
        table: the rows.
        seed: the configuration's.
    """
    store.put(f"{name}{COMPANION}", _sealed(SegmentIndex.of(table, seed, hash_key).to_safetensors()))
    store.put(f"{name}{ROWS}", table.to_parquet())


def put_sums(store: Store, run: str, table: RowTable, classes: int) -> None:
    """Write the sums over the rows of a run, which are in objects whose names begin with its name."""
    sums = Statistics.of(table.features_NH, table.labels_N, classes)
    store.put(f"{run}{SUMS}", _sealed(tensors_to_bytes(sums.tensors(""))))


def read_companion(store: Store, rows_object: str) -> SegmentIndex:
    """The index of the rows of an object. Raises ObjectMissingError, ObjectCorruptError."""
    name = companion_of(rows_object)
    return SegmentIndex.from_safetensors(_unsealed(store.get(name), name), name)


def read_sums(store: Store, name: str) -> Statistics:
    """The sums over the rows of a run. Raises ObjectMissingError, ObjectCorruptError."""
    return Statistics.from_tensors(tensors_from_bytes(_unsealed(store.get(name), name), name), "")


def companion_of(rows_object: str) -> str:
    """The name of an object's companion."""
    return f"{rows_object.removesuffix(ROWS)}{COMPANION}"


def sums_of(rows_object: str) -> str:
    """The name of the object with the sums of the run that an object belongs to, if it belongs to one."""
    return f"{rows_object.removesuffix(ROWS).rpartition('-')[0]}{SUMS}"


def short_hashes(hashes: Iterable[str]) -> np.ndarray:
    """uint64: the first eight bytes of keyed hashes, given as hex digits. Two ids collide once in 10^19."""
    return np.array([int(each[:16], 16) for each in hashes], np.uint64)


def short_hashes_of(index: SegmentIndex) -> np.ndarray:
    """The same of all samples and subjects of an index, sorted."""
    named = index.subjects_N32[index.subjects_N32.any(axis=1)]
    hashes_M8 = np.concatenate([index.samples_N32, named])[:, :8]
    return np.unique(np.ascontiguousarray(hashes_M8).view(">u8").astype(np.uint64))


def _sealed(data: bytes) -> bytes:
    return hashlib.sha256(data).digest() + data


def _unsealed(data: bytes, name: str) -> bytes:
    content = data[_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != data[:_DIGEST_BYTES]:
        raise ObjectCorruptError(f"{name} does not have the digest that it begins with")
    return content
