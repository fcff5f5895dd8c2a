"""A request to delete, and what the service says about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["accepted", "erased", "completed", "failed"]


@dataclass(frozen=True)
class DeletionRequest:
    """A deletion request, as the edge passes it to the coordinator.

    Attributes:
        sample_ids: samples to delete.
        subject_ids: subjects to delete every sample of.
        idempotency_key: a repeated request with the same key and the same ids gets the same answer.
        deadline: when the deletion should be completed, ISO 8601 with an offset; the earliest deadline is tuned first.
    """

    sample_ids: tuple[str, ...] = ()
    subject_ids: tuple[str, ...] = ()
    idempotency_key: str | None = None
    deadline: str | None = None


@dataclass(frozen=True)
class Deletion:
    """A deletion and its current status.

    Attributes:
        id: identifies the deletion.
        status: "accepted", then "erased", then "completed"; or "failed" when an affected cluster could not be tuned
            again (the erasure is not affected).
        rows: number of rows that it covers; from "erased" on including rows that were ingested in the meantime.
        unknown: number of its ids that matched no row.
        unknown_ids: those ids; only in the answer to the request itself, since only keyed hashes are stored.
        clusters: keys of the clusters that held the rows; set once the status is "erased".
        accepted_at, erased_at, completed_at: ISO 8601, UTC; None before.
        deadline: when it should be completed, ISO 8601, UTC; None if the request gave none.
        reason: why it failed; while it is accepted, why its rows could not be erased yet.
    """

    id: str
    status: Status
    rows: int
    accepted_at: str
    unknown: int = 0
    unknown_ids: tuple[str, ...] = ()
    clusters: tuple[str, ...] = ()
    erased_at: str | None = None
    completed_at: str | None = None
    deadline: str | None = None
    reason: str | None = None
