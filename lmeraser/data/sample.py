"""One private row, and where rows come from."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, Self


# Without a repr: a traceback or a log line that quotes a sample must not show the row.
@dataclass(frozen=True, repr=False)
class Sample:
    """One row of data.

    Attributes:
        sample_id: identifies the row.
        subject_id: the person that the row is about; None where the data names none.
        label: index into the declared labels.
        image: encoded, as the source has it.
    """

    sample_id: str
    subject_id: str | None
    label: int
    image: bytes


@dataclass
class SourceReport:
    """What a user should know about a reading besides its rows. Every reading of a source fills it again.

    Attributes:
        left_out: how many files were not read as rows, by reason: a suffix such as ".heic", or words.
        unnamed: how many rows had no sample id and were named by their content.
    """

    left_out: Counter[str] = field(default_factory=Counter)
    unnamed: int = 0

    def clear(self) -> None:
        """Start over, for another reading."""
        self.left_out.clear()
        self.unnamed = 0

    def summary(self) -> str:
        """What was left out, most frequent first: "2 .heic, 1 hidden"; empty when nothing was."""
        return ", ".join(f"{count} {reason}" for reason, count in self.left_out.most_common())


class Source(Protocol):
    """Where samples come from."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names that the data itself declares; empty where it declares none.

        Raises:
            DataError: when the names are most likely not those of labels.
        """

    def count(self) -> int:
        """Upper bound of the number of rows, determined without reading an image.

        Raises:
            DataError: when the data cannot be read.
        """

    def sample_ids(self, labels: tuple[str, ...]) -> Iterator[str]:
        """The ids of :meth:`samples`, in the same order; images are read only where ids are made from them.

        Raises:
            UnknownLabelError, DataError: see samples.
        """

    def samples(self, labels: tuple[str, ...]) -> Iterator[Sample]:
        """All samples, in a fixed order, in bounded memory.

        Raises:
            UnknownLabelError: when a row's label is not among ``labels``.
            DataError: when the data cannot be read.
        """

    def shard(self, num_shards: int, index: int) -> Source:
        """One of ``num_shards`` parts of about equal size.

        The parts from index 0 on, one after the other, are the whole source: same rows, ids and order.
        """


@dataclass(frozen=True)
class Shard:
    """Which part of a source's rows is read: part ``index`` of ``num_shards``."""

    num_shards: int = 1
    index: int = 0

    def part(self, num_shards: int, index: int) -> Shard:
        """A part of this part."""
        assert 0 <= index < num_shards
        return Shard(self.num_shards * num_shards, self.index * num_shards + index)

    def rows(self, count: int) -> range:
        """The numbers of its rows, out of this many."""
        return range(count * self.index // self.num_shards, count * (self.index + 1) // self.num_shards)


class ShardedSource:
    """Base of sources that read the rows of ``_shard`` alone."""

    _shard = Shard()

    def shard(self, num_shards: int, index: int) -> Self:
        """See Source.shard."""
        part = copy.copy(self)
        part._shard = self._shard.part(num_shards, index)
        return part


def sample_chunks(samples: Iterable[Sample], rows: int, most_bytes: int = 1 << 25) -> Iterator[list[Sample]]:
    """The samples in lists of at most ``rows`` rows, whose images have at most ``most_bytes`` bytes together.

    An image that is larger than that is in a list of its own.
    """
    chunk: list[Sample] = []
    chunk_bytes = 0
    for sample in samples:
        if chunk and (len(chunk) == rows or chunk_bytes + len(sample.image) > most_bytes):
            yield chunk
            chunk, chunk_bytes = [], 0
        chunk.append(sample)
        chunk_bytes += len(sample.image)
    if chunk:
        yield chunk
