"""One private row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
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


class Source(Protocol):
    """Where samples come from."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names that the data itself declares; empty where it declares none."""

    def samples(self, labels: tuple[str, ...]) -> Iterator[Sample]:
        """All samples, in a fixed order, in bounded memory.

        Raises:
            UnknownLabelError: when a row's label is not among ``labels``.
            DataError: when the data cannot be read or holds no rows.
        """
