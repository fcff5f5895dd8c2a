"""``lmeraser delete`` and ``lmeraser deletions``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Protocol, cast, get_args

import typer

from cluster.cli.ids_file import IdsFile, SampleIds, SubjectIds, SubjectsFile, odd_ids, read_named
from cluster.cli.options import Limit, NextCursor
from cluster.cli.output import emit, print_page, print_pairs, warn
from cluster.cli.store_deletions import StoreDeletions
from cluster.cli.target import DeletionTarget, with_options
from lmeraser.client.responses import Receipt
from lmeraser.deletion import Deletion, Preview, Status
from lmeraser.errors import ConfigError, LMEraserError, WaitTimeoutError
from lmeraser.ids import is_text
from lmeraser.paging import DEFAULT_LIMIT, Page
from lmeraser.proof.outcomes import Outcome

group = typer.Typer(help="Show, await and retry deletions.", no_args_is_help=True)
_MIN_POLL_S, _MAX_POLL_S = 0.05, 1.0
_RANK = {"requested": -1, "accepted": 0, "erased": 1, "completed": 2, "failed": 2, "declined": 2}
_COLUMNS = ("id", "status", "rows", "unknown", "accepted_at", "erased_at", "completed_at")
DeletionId = Annotated[str, typer.Argument(help="Id of the deletion.")]
AwaitedStatus = Annotated[
    str, typer.Option("--wait", help="Return once the deletion is accepted, erased or completed.")
]
AsPreviewed = Annotated[
    str | None,
    typer.Option("--as-previewed", metavar="TOKEN", help="Do what the preview with this token said, or nothing."),
]
TimeoutS = Annotated[float, typer.Option("--timeout", min=0, help="Longest wait in seconds.")]


class Deletions(AbstractContextManager["Deletions"], Protocol):
    """The calls on deletions that :class:`lmeraser.Client` and :class:`StoreDeletions` have in common."""

    def delete(
        self,
        *,
        sample_ids: Sequence[str],
        subject_ids: Sequence[str],
        idempotency_key: str | None,
        deadline: datetime | None,
        preview: str | None,
    ) -> Deletion: ...

    def preview(self, *, sample_ids: Sequence[str], subject_ids: Sequence[str], show_ids: bool) -> Preview: ...

    def preview_of(self, deletion_id: str, *, show_ids: bool) -> Preview: ...

    def approve(self, deletion_id: str, *, preview: str | None) -> Deletion: ...

    def decline(self, deletion_id: str, *, reason: str) -> Deletion: ...

    def retry(self, deletion_id: str) -> Deletion: ...

    def deletion(self, deletion_id: str) -> Deletion: ...

    def deletions_page(self, *, limit: int, cursor: str | None, status: Status | None) -> Page[Deletion]: ...

    def receipt(self, deletion_id: str) -> Receipt: ...

    def outcomes(
        self, *, sample_ids: Sequence[str], subject_ids: Sequence[str], deletions: Sequence[str]
    ) -> list[Outcome]: ...


def open_deletions(target: DeletionTarget) -> Deletions:
    """The service at ``--url``, else the store and its coordinator."""
    return target.open_client() or StoreDeletions(target)


def register(app: typer.Typer) -> None:
    """Add ``lmeraser delete``."""
    app.command()(delete)


@with_options
def delete(
    target: DeletionTarget,
    sample_ids: SampleIds = None,
    subject_ids: SubjectIds = None,
    ids_file: IdsFile = None,
    subjects_file: SubjectsFile = None,
    allow_unknown: Annotated[
        bool, typer.Option("--allow-unknown", help="Exit with 0 even if none of the ids is in the store.")
    ] = False,
    idempotency_key: Annotated[str | None, typer.Option(help="The same key and ids delete once.")] = None,
    deadline: Annotated[
        str | None,
        typer.Option(help="Completion deadline, such as 2026-12-24T18:00:00Z. Earliest deadline first."),
    ] = None,
    preview: AsPreviewed = None,
    wait: AwaitedStatus = "completed",
    timeout_s: TimeoutS = 3600.0,
) -> None:
    """Delete samples, and every sample of subjects, from a store or with --url through its service.

    Exit code 1 if none of the ids is in the store, or the deletion fails. Where approval is required, it returns at
    once, and the deletion waits until somebody else approves it. The API key for --url comes from
    LMERASER_API_KEY or --api-key-file.

    Ids in a file or on standard input stay out of the shell's history; ids in options do not. A file holds one id per
    line: quotation marks around an id belong to the file, blanks belong to the id.

    Example: lmeraser delete --store /data/gtsrb-store --subjects-file gone.txt

    Example: lmeraser delete --url https://lmeraser.example.org --api-key-file api.key --ids-file gone.txt
    """
    _check_status(wait)
    samples, subjects = read_named(ids_file, subjects_file, sample_ids, subject_ids)
    if idempotency_key is not None and not is_text(idempotency_key):
        raise ConfigError(f"--idempotency-key is {idempotency_key!r}; allowed is text in UTF-8")
    with open_deletions(target) as deletions:
        accepted = deletions.delete(
            sample_ids=samples,
            subject_ids=subjects,
            idempotency_key=idempotency_key,
            deadline=_moment(deadline),
            preview=preview,
        )
        waits = accepted.status == "requested"
        deletion = accepted if waits else awaited(deletions, accepted.id, wait, timeout_s)
    named, unknown = {*samples, *subjects}, list(accepted.unknown_ids)
    nothing_known = named <= set(unknown)
    shown = {**asdict(deletion), "unknown_ids": unknown}
    # People are told by the message below.
    emit({**shown, "nothing_known": nothing_known}, target.as_json, lambda: print_pairs(shown.items()))
    _check_not_failed(deletion)
    if waits:
        warn(f"nothing is deleted yet: somebody else has to approve it, `lmeraser deletions approve {deletion.id}`")
    if not unknown:
        return
    summary = f"{len(unknown)} of {len(named)} id(s) are not in the store, such as {unknown[0]!r}{odd_ids(unknown)}"
    if nothing_known and not allow_unknown:
        raise LMEraserError(f"nothing was deleted: {summary}. With --allow-unknown this is not an error")
    warn(summary)


@group.command("list")
@with_options
def list_page(
    target: DeletionTarget,
    limit: Limit = DEFAULT_LIMIT,
    cursor: NextCursor = None,
    status: Annotated[
        str | None, typer.Option(help="Only deletions with this status, such as requested or failed.")
    ] = None,
) -> None:
    """List deletions, newest first, one page at a time.

    Those that were archived come last, in the order in which they were: some time after their completion.

    Example: lmeraser deletions list --status failed --store /data/gtsrb-store
    """
    with open_deletions(target) as source:
        page = source.deletions_page(limit=limit, cursor=cursor, status=_listed_status(status))
    emit(
        {"deletions": [asdict(deletion) for deletion in page.items], "next_cursor": page.next_cursor},
        target.as_json,
        lambda: print_page(_COLUMNS, ([getattr(each, name) for name in _COLUMNS] for each in page.items), page),
    )


@group.command("show")
@with_options
def show(target: DeletionTarget, deletion_id: DeletionId) -> None:
    """Show one deletion: its status, how many ids were unknown, and why it is held up or failed.

    Without --url, the reason why an erasure is held up is shown only while the coordinator runs.

    Example: lmeraser deletions show 4f0c… --store /data/gtsrb-store
    """
    with open_deletions(target) as deletions:
        emit(asdict(deletions.deletion(deletion_id)), target.as_json)


@group.command("retry")
@with_options
def retry(
    target: DeletionTarget,
    deletion_id: Annotated[str, typer.Argument(help="Id of a failed deletion.")],
    timeout_s: TimeoutS = 3600.0,
) -> None:
    """Tune the clusters of a failed deletion again, and wait until the deletion is completed.

    Example: lmeraser deletions retry 4f0c… --store /data/gtsrb-store
    """
    with open_deletions(target) as deletions:
        deletions.retry(deletion_id)
        deletion = awaited(deletions, deletion_id, "completed", timeout_s)
    emit(asdict(deletion), target.as_json)
    _check_not_failed(deletion)


@group.command("wait")
@with_options
def wait_for(
    target: DeletionTarget,
    deletion_id: DeletionId,
    status: Annotated[str, typer.Option("--status", help="accepted, erased or completed.")] = "completed",
    timeout_s: TimeoutS = 3600.0,
) -> None:
    """Wait for a deletion; exit code 1 if it failed or the time is up.

    Example: lmeraser deletions wait 4f0c… --status erased --store /data/gtsrb-store
    """
    _check_status(status)
    with open_deletions(target) as deletions:
        deletion = awaited(deletions, deletion_id, status, timeout_s)
    emit(asdict(deletion), target.as_json)
    _check_not_failed(deletion)


def awaited(deletions: Deletions, deletion_id: str, status: str, timeout_s: float) -> Deletion:
    """The deletion once it has reached the status, or failed."""
    until = time.monotonic() + timeout_s
    pause_s = _MIN_POLL_S
    while True:
        deletion = deletions.deletion(deletion_id)
        if _RANK[deletion.status] >= _RANK[status]:
            return deletion
        remaining_s = until - time.monotonic()
        if remaining_s <= 0:
            reason = f": {deletion.reason}" if deletion.reason else ""
            raise WaitTimeoutError(
                f"deletion {deletion_id} is {deletion.status} after {timeout_s:g} s, not {status}{reason}"
            )
        time.sleep(min(pause_s, remaining_s))
        pause_s = min(1.5 * pause_s, _MAX_POLL_S)


def _moment(deadline: str | None) -> datetime | None:
    if deadline is None:
        return None
    try:
        moment = datetime.fromisoformat(deadline)
    except ValueError:
        moment = datetime.min
    if moment.utcoffset() is None:
        raise ConfigError(
            f"--deadline is {deadline!r}; allowed is ISO 8601 with an offset from UTC: 2026-12-24T18:00:00Z"
        )
    return moment


def _check_status(status: str) -> None:
    allowed: tuple[Status, ...] = ("accepted", "erased", "completed")
    if status not in allowed:
        raise ConfigError(f"cannot wait for {status!r}; allowed is {', '.join(allowed)}")


def _listed_status(status: str | None) -> Status | None:
    for allowed in get_args(Status):
        if status == allowed:
            return cast("Status", allowed)
    if status is not None:
        raise ConfigError(f"--status is {status!r}; allowed is {', '.join(get_args(Status))}")
    return None


def _check_not_failed(deletion: Deletion) -> None:
    if deletion.status == "declined":
        who = f" by {deletion.decided_by!r}" if deletion.decided_by else ""
        raise LMEraserError(f"deletion {deletion.id} was declined{who}: {deletion.reason}")
    if deletion.status == "failed":
        raise LMEraserError(f"deletion {deletion.id} is erased, but failed to complete: {deletion.reason}")
