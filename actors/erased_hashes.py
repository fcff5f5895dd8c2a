"""What deletions have named: keyed hashes, in the history and in the runs that checkpoints have moved out of it.

A run is an object of rows of 40 bytes: a keyed hash, and the number of the record that named it, sorted.

Legend: N hashes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lmeraser.errors import ObjectCorruptError
from lmeraser.parallel import in_parallel
from lmeraser.state.layout import ERASED
from lmeraser.store import Store

_ROW = np.dtype([("first", ">u8"), ("rest", "V24"), ("number", ">u8")])


def run_of(erased: Mapping[str, int]) -> bytes:
    """A run of keyed hashes, in hex digits, each with the number of a record."""
    rows = (bytes.fromhex(each) + number.to_bytes(8, "big") for each, number in erased.items())
    return b"".join(sorted(rows))


class ErasedHashes:
    """Finds out when something was last named in a deletion. Reads all runs, once, so it is for many questions."""

    def __init__(self, store: Store, recent: Mapping[str, int]) -> None:
        """Read the runs.

        Args:
            store: where they are.
            recent: what the history still has.

        Raises:
            ObjectCorruptError: when a run is malformed.
        """
        runs = in_parallel(lambda name: _parsed(name, store.get(name)), store.names(ERASED))
        rows_N = np.concatenate([np.zeros(0, _ROW), *runs])
        self._rows_N = rows_N[np.argsort(rows_N["first"], kind="stable")]
        self._recent = recent

    def number_of(self, keyed_hash: str) -> int:
        """Number of the last record that named it; -1 where none did."""
        named = self._recent.get(keyed_hash, -1)
        wanted = bytes.fromhex(keyed_hash)
        first = np.array(int.from_bytes(wanted[:8], "big"), ">u8")
        start, end = (int(np.searchsorted(self._rows_N["first"], first, side)) for side in ("left", "right"))
        numbers = (int(row["number"]) for row in self._rows_N[start:end] if row["rest"].tobytes() == wanted[8:])
        return max(named, *numbers, -1)


def _parsed(name: str, data: bytes) -> np.ndarray:
    if len(data) % _ROW.itemsize:
        raise ObjectCorruptError(f"{name} has {len(data)} bytes; allowed is a multiple of {_ROW.itemsize}")
    return np.frombuffer(data, _ROW)
