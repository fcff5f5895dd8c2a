"""What the coordinator reports about itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from actors.backlog import Backlog
    from actors.journal import Journal
    from actors.tunings import Tunings


@dataclass(frozen=True)
class RebuildStatus:
    """How far a rebuild is.

    Attributes:
        generation: the generation that is made.
        rows: how many rows the live generation has; the draft is complete once it has as many.
        draft: of the draft's coordinator; None while the draft is not open.
        problem: why the last piece of work for the draft failed; empty if it did not.
    """

    generation: str
    rows: int
    draft: CoordinatorStatus | None
    problem: str = ""


@dataclass(frozen=True)
class CoordinatorStatus:
    """What the system holds, and its pending work.

    Attributes:
        term: the coordinator's term in the log.
        commit: record number of the newest commit; None before the first.
        state_root: root of the newest commit; None before the first.
        rows, clusters: how many the newest commit has.
        awaiting: keys of the clusters that are to be tuned, those being tuned now among them.
        running: keys of the clusters that are being tuned.
        held_up: deletions whose rows could not be erased yet, with the reason, by deletion id.
        failed: clusters whose tuning was given up, with the last reason, by cluster key.
        tunings: how many tunings have given a specialist since the coordinator started.
        idle: whether nothing is requested, running or awaited.
        archived: how many completed deletions were archived.
        held: why no tuning is started; empty while tunings are.
        log_records: how many records the log has.
        since_checkpoint: how many of them came after the newest checkpoint.
    """

    term: int
    commit: int | None
    state_root: str | None
    rows: int
    clusters: int
    awaiting: tuple[str, ...]
    running: tuple[str, ...]
    held_up: Mapping[str, str]
    failed: Mapping[str, str]
    tunings: int
    idle: bool
    archived: int
    held: str
    log_records: int
    since_checkpoint: int


def status_of(journal: Journal, tunings: Tunings, backlog: Backlog, *, idle: bool) -> CoordinatorStatus:
    """The status of the coordinator whose these are."""
    commit = journal.history.commit
    return CoordinatorStatus(
        term=journal.term,
        commit=commit.number if commit is not None else None,
        state_root=commit.root if commit is not None else None,
        rows=commit.rows if commit is not None else 0,
        clusters=len(commit.clusters) if commit is not None else 0,
        awaiting=tuple(tunings.awaiting),
        running=tuple(tunings.running),
        held_up=backlog.held_up(),
        failed=tunings.given_up,
        tunings=tunings.made,
        idle=idle,
        archived=journal.history.archived,
        held=tunings.held,
        log_records=journal.head.number,
        since_checkpoint=journal.history.since.total(),
    )
