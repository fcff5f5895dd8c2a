"""A subset of a source's rows, drawn by a hash of their sample ids."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from lmeraser.data.sample import Sample, Source
from lmeraser.hashing import draw_uint64


class SubsetSource:
    """The rows of a source with the lowest hashes of their sample ids.

    Which rows these are depends on no order, and taking away a row that is not among them changes nothing.
    """

    def __init__(self, source: Source, rows: int, whole: Source | None = None) -> None:
        """Take ``rows`` rows of ``whole``, and read those of them that are in ``source``, one of its shards."""
        self._source = source
        self._rows = rows
        self._whole = whole or source

    @property
    def labels(self) -> tuple[str, ...]:
        """See Source.labels."""
        return self._source.labels

    def count(self) -> int:
        """See Source.count."""
        return min(self._rows, self._source.count())

    def sample_ids(self, labels: tuple[str, ...]) -> Iterator[str]:
        """See Source.sample_ids."""
        highest = self._highest_hash(labels)
        return (name for name in self._source.sample_ids(labels) if _hash(name) <= highest)

    def samples(self, labels: tuple[str, ...]) -> Iterator[Sample]:
        """See Source.samples."""
        highest = self._highest_hash(labels)
        return (sample for sample in self._source.samples(labels) if _hash(sample.sample_id) <= highest)

    def shard(self, num_shards: int, index: int) -> SubsetSource:
        """See Source.shard."""
        return SubsetSource(self._source.shard(num_shards, index), self._rows, self._whole)

    def _highest_hash(self, labels: tuple[str, ...]) -> int:
        """The highest hash of a row that is taken; -1 where the source has no rows."""
        return max(heapq.nsmallest(self._rows, map(_hash, self._whole.sample_ids(labels))), default=-1)


def _hash(sample_id: str) -> int:
    return draw_uint64(0, "rows", sample_id)
