"""What the records of the log say, by kind. The body of a commit is :class:`lmeraser.state.commit.Commit`.

Bodies hold keyed hashes only, never ids. Each class is one kind, and its fields are the keys of the JSON object.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from lmeraser.errors import LogError
from lmeraser.state.log import Record


@dataclass(frozen=True)
class _Body:
    @classmethod
    def from_record(cls, record: Record) -> Self:
        """Read a record of this kind.

        Raises:
            LogError: when its body lacks a field, or has another one.
        """
        try:
            return cls.from_body(record.body)
        except TypeError as error:
            raise LogError(f"the body of log record {record.number} ({record.kind}) is malformed: {error}") from error

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Self:
        """Read a body from its JSON object. Raises TypeError when it lacks a field, or has another one."""
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in body.items()})

    def to_body(self) -> dict[str, Any]:
        """The body as a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class TermBody(_Body):
    """A coordinator has started.

    Attributes:
        base: number of the commit that a restore continues from; None, and not in the JSON, for any other start.
    """

    base: int | None = None

    def to_body(self) -> dict[str, Any]:
        """The body as a JSON object."""
        return {} if self.base is None else asdict(self)


@dataclass(frozen=True)
class RequestBody(_Body):
    """A deletion was accepted.

    Attributes:
        id: of the deletion.
        samples: keyed hashes of the rows that it covered when it was accepted.
        subjects: keyed hashes of the named subjects that had rows then.
        unknown_samples, unknown_subjects: keyed hashes of the named ids that had none.
        idempotency: keyed hash of the idempotency key; None when there was none.
        body: keyed hash of what was asked for, to compare a repeated request with.
        deadline: ISO 8601, UTC; None when there is none.
    """

    id: str
    samples: tuple[str, ...]
    subjects: tuple[str, ...]
    unknown_samples: tuple[str, ...]
    unknown_subjects: tuple[str, ...]
    idempotency: str | None
    body: str
    deadline: str | None

    def hashes(self) -> tuple[str, ...]:
        """Keyed hashes of all samples and subjects that were named, and of the rows that were covered at first."""
        return (*self.samples, *self.subjects, *self.unknown_samples, *self.unknown_subjects)

    @property
    def unknown(self) -> int:
        """How many of the named ids had no rows."""
        return len(self.unknown_samples) + len(self.unknown_subjects)


@dataclass(frozen=True)
class ErasedBody(_Body):
    """The rows of a deletion are gone from every answer and every object.

    Attributes:
        id: of the deletion.
        clusters: keys of the clusters that held the rows.
        rows: how many rows it covered in the end.
        unknown: how many of the named ids had no rows in the end.
        at: when, as the receipt says, ISO 8601, UTC.
        receipt: name of the receipt's object.
    """

    id: str
    clusters: tuple[str, ...]
    rows: int
    unknown: int
    at: str
    receipt: str


@dataclass(frozen=True)
class CompletedBody(_Body):
    """The clusters that a deletion touched are tuned again.

    Attributes:
        id: of the deletion.
        at: when, as the receipt says, ISO 8601, UTC.
        receipt: name of the final receipt's object.
    """

    id: str
    at: str
    receipt: str


@dataclass(frozen=True)
class FailedBody(_Body):
    """A cluster that a deletion touched could not be tuned again. The erasure remains in effect."""

    id: str
    reason: str


@dataclass(frozen=True)
class RetryBody(_Body):
    """A deletion that had failed is tried again."""

    id: str


@dataclass(frozen=True)
class AttemptBody(_Body):
    """A tuning failed.

    Attributes:
        key: of the cluster.
        coreset: keyed digest of the rows that were tuned on, the ``coreset_leaf`` of the cluster's entry.
        reason: why it failed.
    """

    key: str
    coreset: str
    reason: str


@dataclass(frozen=True)
class RebuildBody(_Body):
    """A rebuild was begun or abandoned. One that ends well ends with a commit of its generation.

    Attributes:
        generation: the generation that is made.
        abandoned: whether it was given up.
    """

    generation: str
    abandoned: bool = False


def deletion_of(record: Record) -> str | None:
    """The id of the deletion that a record is about; None when it is about none, or about several, as a commit is."""
    return record.body["id"] if record.kind in ("request", "erased", "completed", "failed", "retry") else None


def receipt_of(record: Record) -> str | None:
    """The name of the receipt's object that a record makes valid; None when its kind makes none valid."""
    return record.body["receipt"] if record.kind in ("erased", "completed") else None
