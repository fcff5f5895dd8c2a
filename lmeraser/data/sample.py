"""One private row, and where rows come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol


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


@dataclass(frozen=True)
class Part:
    """What of a source is read at once, by one process.

    Attributes:
        number: its position among the source's parts.
        place: where its rows are, without their ids: a process that opens the source later finds the same rows there,
            or another place.
        rows: how many rows it has; an estimate where they are not counted without reading them.
        size: bytes that are read for it, about.
    """

    number: int
    place: str
    rows: int
    size: int


class Source(Protocol):
    """Where samples come from."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names that the data itself declares; empty where it declares none.

        Raises:
            DataError: when the names are most likely not those of labels.
        """

    def count(self) -> int:
        """How many rows there are, determined without reading an image: an upper bound, or an estimate.

        Raises:
            DataError: when the data cannot be read.
        """

    def parts(self) -> Sequence[Part]:
        """The parts, each of a few hundred rows where the data can be divided so; one after the other, all rows.

        Raises:
            DataError: when the data cannot be read.
        """

    def read(self, part: Part, labels: tuple[str, ...]) -> Iterator[Sample]:
        """The samples of one part, in a fixed order, in bounded memory, reading no others.

        Raises:
            UnknownLabelError: when a row's label is not among ``labels``.
            DataError: when the data cannot be read, or the part is no longer the same.
        """

    def sample_ids(self, labels: tuple[str, ...]) -> Iterator[str]:
        """The ids of :meth:`samples`, in the same order; images are read only where ids are made from them.

        Raises:
            UnknownLabelError, DataError: see read.
        """

    def samples(self, labels: tuple[str, ...]) -> Iterator[Sample]:
        """The samples of all parts, one after the other.

        Raises:
            UnknownLabelError, DataError: see read.
        """

    def shard(self, num_shards: int, index: int) -> Source:
        """One of ``num_shards`` runs of parts, of about equal numbers of rows.

        The shards from index 0 on, one after the other, are the whole source: same rows, ids and order.
        """

    def label_values(self, most: int) -> list[str | int | None]:
        """The first ``most`` distinct labels of rows whose data names no labels; see :attr:`labels`."""


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
