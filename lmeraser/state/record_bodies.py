"""What the records of the log say, by kind. The body of a commit is :class:`lmeraser.state.commit.Commit`.

Bodies hold keyed hashes only, never ids. Each class is one kind, and its fields are the keys of the JSON object. A
record about deletions says the same kind of thing about one or more of them, so that a burst of requests costs few
records: its body is a list of JSON objects under "deletions".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from lmeraser.errors import LogError
from lmeraser.state.log import Record

# Deletions that one record is about, so that its size is bounded.
MOST_DELETIONS = 1000
_ABOUT_DELETIONS = ("request", "approved", "declined", "erased", "completed", "failed", "retry")


@dataclass(frozen=True)
class _Body:
    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Self:
        """Read a body from its JSON object. Raises TypeError when it lacks a field, or has another one."""
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in body.items()})

    def to_body(self) -> dict[str, Any]:
        """The body as a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class _RecordBody(_Body):
    @classmethod
    def from_record(cls, record: Record) -> Self:
        """Read a record of this kind.

        Raises:
            LogError: when its body lacks a field, or has another one.
        """
        try:
            return cls.from_body(record.body)
        except TypeError as error:
            raise _malformed(record, error) from error


@dataclass(frozen=True)
class TermBody(_RecordBody):
    """A coordinator has started.

    Attributes:
        base: number of the commit that a restore continues from; None, and not in the JSON, for any other start.
    """

    base: int | None = None

    def to_body(self) -> dict[str, Any]:
        """The body as a JSON object."""
        return {} if self.base is None else asdict(self)


@dataclass(frozen=True)
class DeletionBody(_Body):
    """What a record says about one deletion.

    Attributes:
        id: of the deletion.
    """

    id: str

    @classmethod
    def all_from(cls, record: Record) -> tuple[Self, ...]:
        """Read what a record of this kind says about each of its deletions.

        Raises:
            LogError: when one lacks a field, or has another one.
        """
        try:
            return tuple(map(cls.from_body, record.body["deletions"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise _malformed(record, error) from error


def body_of(deletions: Sequence[DeletionBody]) -> dict[str, Any]:
    """The body of a record about these deletions."""
    return {"deletions": [each.to_body() for each in deletions]}


@dataclass(frozen=True)
class RequestBody(DeletionBody):
    """A deletion was requested: accepted at once, unless it awaits approval.

    Attributes:
        samples: keyed hashes of the rows that it covered when it was requested.
        subjects: keyed hashes of the named subjects that had rows then.
        unknown_samples, unknown_subjects: keyed hashes of the named ids that had none.
        idempotency: keyed hash of the idempotency key; None when there was none.
        body: keyed hash of what was asked for, to compare a repeated request with.
        deadline: ISO 8601, UTC; None when there is none.
        previewed: the state root that its preview gave; None when it named no preview.
        preview_of: the number of the commit that the preview was of.
        by: name of whoever requested it.
        awaits_approval: whether somebody else has to approve it.
    """

    samples: tuple[str, ...]
    subjects: tuple[str, ...]
    unknown_samples: tuple[str, ...]
    unknown_subjects: tuple[str, ...]
    idempotency: str | None
    body: str
    deadline: str | None
    previewed: str | None = None
    preview_of: int | None = None
    by: str = ""
    awaits_approval: bool = False

    def hashes(self) -> tuple[str, ...]:
        """Keyed hashes of all samples and subjects that were named, and of the rows that were covered at first."""
        return (*self.samples, *self.subjects, *self.unknown_samples, *self.unknown_subjects)

    @property
    def unknown(self) -> int:
        """How many of the named ids had no rows."""
        return len(self.unknown_samples) + len(self.unknown_subjects)


@dataclass(frozen=True)
class ApprovedBody(DeletionBody):
    """A deletion that awaited approval was approved, and thereby accepted.

    Attributes:
        by: name of whoever approved it.
        previewed: the state root that the approver's preview gave; None when it is that of the request, if any.
    """

    by: str
    previewed: str | None = None


@dataclass(frozen=True)
class DeclinedBody(DeletionBody):
    """A deletion that awaited approval was declined.

    Attributes:
        by: name of whoever declined it.
        reason: why.
    """

    by: str
    reason: str


@dataclass(frozen=True)
class ErasedBody(DeletionBody):
    """The rows of a deletion are gone from every answer and every object.

    Attributes:
        clusters: keys of the clusters that held the rows.
        rows: how many rows it covered in the end.
        unknown: how many of the named ids had no rows in the end.
        at: when, as the receipt says, ISO 8601, UTC.
        receipt: name of the receipt's object.
    """

    clusters: tuple[str, ...]
    rows: int
    unknown: int
    at: str
    receipt: str


@dataclass(frozen=True)
class CompletedBody(DeletionBody):
    """The clusters that a deletion touched are tuned again.

    Attributes:
        at: when, as the receipt says, ISO 8601, UTC.
        receipt: name of the final receipt's object.
    """

    at: str
    receipt: str


@dataclass(frozen=True)
class FailedBody(DeletionBody):
    """A cluster that a deletion touched could not be tuned again. The erasure remains in effect."""

    reason: str


@dataclass(frozen=True)
class RetryBody(DeletionBody):
    """A deletion that had failed is tried again."""


@dataclass(frozen=True)
class AttemptBody(_RecordBody):
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
class PolicyBody(_RecordBody):
    """What deletions need from now on.

    Attributes:
        approval: whether somebody else than the requester has to approve them.
    """

    approval: bool


@dataclass(frozen=True)
class RebuildBody(_RecordBody):
    """A rebuild was begun or abandoned. One that ends well ends with a commit of its generation.

    Attributes:
        generation: the generation that is made.
        abandoned: whether it was given up.
    """

    generation: str
    abandoned: bool = False


def rebuild_after(record: Record, before: str | None) -> str | None:
    """The generation that is being made after a record of any kind; None if none is.

    Args:
        record: of the log.
        before: the generation that was being made before it.

    Raises:
        LogError: when the body of the record lacks a field, or has another one.
    """
    if record.kind == "rebuild":
        body = RebuildBody.from_record(record)
        return None if body.abandoned else body.generation
    # The commit of a switch, and a restore from an earlier commit, end what is under way.
    ended = record.body["generation"] == before if record.kind == "commit" else _continues(record)
    return None if ended else before


def _continues(record: Record) -> bool:
    return record.kind == "term" and TermBody.from_record(record).base is not None


def deletions_of(record: Record) -> tuple[str, ...]:
    """The ids of the deletions that a record is about; none for a commit, which erases rows of several."""
    return tuple(each["id"] for each in record.body["deletions"]) if record.kind in _ABOUT_DELETIONS else ()


def receipts_of(record: Record) -> tuple[str, ...]:
    """The names of the receipts' objects that a record makes valid; none where its kind makes none valid."""
    return tuple(each["receipt"] for each in record.body["deletions"]) if record.kind in ("erased", "completed") else ()


def _malformed(record: Record, error: Exception) -> LogError:
    return LogError(f"the body of log record {record.number} ({record.kind}) is malformed: {error!r}")
