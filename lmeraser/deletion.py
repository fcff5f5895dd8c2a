"""A request to delete, and what the service says about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# Ids that one deletion may name.
MAX_IDS = 100_000

Status = Literal["requested", "declined", "accepted", "erased", "completed", "failed"]


@dataclass(frozen=True)
class DeletionRequest:
    """A deletion request, as the edge passes it to the coordinator.

    Attributes:
        sample_ids: samples to delete.
        subject_ids: subjects to delete every sample of.
        idempotency_key: a repeated request with the same key and the same ids gets the same answer.
        deadline: when the deletion should be completed, ISO 8601 with an offset; the earliest deadline is tuned first.
        preview: token of a preview of these ids, if exactly what it said is to be done.
        by: name of whoever requests it.
    """

    sample_ids: tuple[str, ...] = ()
    subject_ids: tuple[str, ...] = ()
    idempotency_key: str | None = None
    deadline: str | None = None
    preview: str | None = None
    by: str = ""


@dataclass(frozen=True)
class Preview:
    """What a deletion of certain ids would do. Nothing is recorded.

    Attributes:
        commit: the number of the commit that it is of.
        root: the state root right after the erasure.
        rows: how many rows would be erased.
        subjects: how many of the named subjects have rows.
        unknown: how many of the ids match no row.
        unknown_ids: those ids.
        clusters: keys of the clusters that hold the rows.
        coreset_rows: how many of the rows are in the coreset of their cluster.
        row_passes: rows that pass the backbone until the deletion is completed, forwards and backwards counted apart.
        seconds: how long it takes until it is completed if nothing else is to be done; None while no tuning has been
            timed since the coordinator started.
        token: has a deletion of these ids do exactly this, or be refused.
        sample_ids: the rows that would be erased, where they were asked for.
    """

    commit: int
    root: str
    rows: int
    subjects: int
    unknown: int
    unknown_ids: tuple[str, ...]
    clusters: tuple[str, ...]
    coreset_rows: int
    row_passes: int
    seconds: float | None
    token: str
    sample_ids: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Deletion:
    """A deletion and its current status.

    Attributes:
        id: identifies the deletion.
        status: "accepted", then "erased", then "completed"; or "failed" when an affected cluster could not be tuned
            again (the erasure is not affected). Where approval is required, "requested" comes first, and "declined" may
            follow.
        rows: number of rows that it covers; from "erased" on including rows that were ingested in the meantime.
        unknown: number of its ids that matched no row.
        unknown_ids: those ids; only in the answer to the request itself, since only keyed hashes are stored.
        clusters: keys of the clusters that held the rows; set once the status is "erased".
        accepted_at: when it was accepted, ISO 8601, UTC; when it was requested, before it is approved.
        erased_at, completed_at: ISO 8601, UTC; None before.
        deadline: when it should be completed, ISO 8601, UTC; None if the request gave none.
        reason: why it failed or was declined; while it is accepted, why its rows could not be erased yet.
        as_previewed: whether its erasure gave the state root of its preview; None before, or if it named no preview.
        requested_by: name of whoever requested it; empty where the caller had none.
        decided_by: name of whoever approved or declined it; None before, or if no approval was required.
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
    as_previewed: bool | None = None
    requested_by: str = ""
    decided_by: str | None = None
