"""A subset of a source's rows, drawn by a hash of their sample ids."""

from __future__ import annotations

import copy
import heapq
from collections.abc import Iterable, Iterator, Sequence

from lmeraser.data.sample import Part, Sample, Source
from lmeraser.hashing import draw_uint64


class SubsetSource:
    """The rows of a source with the lowest hashes of their sample ids.

    Which rows these are depends on no order, and taking away a row that is not among them changes nothing.
    """

    def __init__(self, source: Source, rows: int, highest: int | None = None) -> None:
        """Take ``rows`` rows.

        Args:
            source: the whole source.
            rows: how many rows.
            highest: what :meth:`highest_hash` gave another process; when None, it is found by reading all ids.
        """
        self._source = self._whole = source
        self._rows = rows
        self._highest = highest

    @property
    def labels(self) -> tuple[str, ...]:
        """See Source.labels."""
        return self._source.labels

    def count(self) -> int:
        """See Source.count."""
        return min(self._rows, self._source.count())

    def parts(self) -> Sequence[Part]:
        """See Source.parts; these have rows that are left out, too."""
        return self._source.parts()

    def read(self, part: Part, labels: tuple[str, ...]) -> Iterator[Sample]:
        """See Source.read."""
        return self._chosen(self._source.read(part, labels), labels)

    def sample_ids(self, labels: tuple[str, ...]) -> Iterator[str]:
        """See Source.sample_ids."""
        highest = self.highest_hash(labels)
        return (name for name in self._source.sample_ids(labels) if _hash(name) <= highest)

    def samples(self, labels: tuple[str, ...]) -> Iterator[Sample]:
        """See Source.samples."""
        return self._chosen(self._source.samples(labels), labels)

    def shard(self, num_shards: int, index: int) -> SubsetSource:
        """See Source.shard."""
        shard = copy.copy(self)
        shard._source, shard._whole = self._source.shard(num_shards, index), self._whole
        return shard

    def label_values(self, most: int) -> list[str | int | None]:
        """See Source.label_values."""
        return self._source.label_values(most)

    def highest_hash(self, labels: tuple[str, ...]) -> int:
        """The highest hash of a row that is taken; -1 where the source has no rows."""
        if self._highest is None:
            self._highest = _highest_of_lowest(self._rows, map(_hash, self._whole.sample_ids(labels)))
        return self._highest

    def _chosen(self, samples: Iterable[Sample], labels: tuple[str, ...]) -> Iterator[Sample]:
        highest = self.highest_hash(labels)
        return (sample for sample in samples if _hash(sample.sample_id) <= highest)


def _highest_of_lowest(count: int, hashes: Iterable[int]) -> int:
    """The highest of the ``count`` lowest different hashes; -1 where there are none."""
    # Negated, so that the highest is first.
    lowest: list[int] = []
    members: set[int] = set()
    for each in hashes:
        if each in members or (len(lowest) == count and each > -lowest[0]):
            continue
        members.add(each)
        heapq.heappush(lowest, -each)
        if len(lowest) > count:
            members.remove(-heapq.heappop(lowest))
    return -lowest[0] if lowest else -1


def _hash(sample_id: str) -> int:
    return draw_uint64(0, "rows", sample_id)
