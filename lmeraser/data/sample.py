"""One private row, and where rows come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol


# Not shown: what a traceback or a log line quotes must hold no row.
@dataclass(frozen=True, repr=False)
class Sample:
    """One row of data.

    Attributes:
        sample_id: tells rows apart.
        subject_id: the person it is about; None where the data names none.
        label: index into the declared labels.
        image: encoded, as it came.
    """

    sample_id: str
    subject_id: str | None
    label: int
    image: bytes


@dataclass
class SourceReport:
    """What a user should know of a reading besides its rows. Every reading of a source fills it anew.

    Attributes:
        left_out: how many files were no rows, by reason: a suffix such as ".heic", or words.
        unnamed: how many rows came without a sample id, and were named by their content.
    """

    left_out: Counter[str] = field(default_factory=Counter)
    unnamed: int = 0

    def clear(self) -> None:
        """Begin anew."""
        self.left_out.clear()
        self.unnamed = 0

    def told(self) -> str:
        """What was left out, the most first: "2 .heic, 1 hidden"; empty when nothing was."""
        return ", ".join(f"{count} {reason}" for reason, count in self.left_out.most_common())


class Source(Protocol):
    """Where samples come from."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names that the data itself declares; empty where it declares none.

        Raises:
            DataError: when what declares them is most likely something else.
        """

    def samples(self, labels: tuple[str, ...]) -> Iterator[Sample]:
        """All samples, in a fixed order, in bounded memory.

        Raises:
            UnknownLabelError: when a row's label is not among ``labels``.
            DataError: when the data cannot be read or holds no rows.
        """


def sample_chunks(samples: Iterable[Sample], rows: int, most_bytes: int = 1 << 25) -> Iterator[list[Sample]]:
    """The samples in lists of at most so many rows, and of so many bytes of images where that is more than one row."""
    chunk: list[Sample] = []
    held = 0
    for sample in samples:
        if chunk and (len(chunk) == rows or held + len(sample.image) > most_bytes):
            yield chunk
            chunk, held = [], 0
        chunk.append(sample)
        held += len(sample.image)
    if chunk:
        yield chunk
