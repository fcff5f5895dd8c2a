"""``lmeraser deletions approve`` and ``decline``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from cluster.cli.deletions import AsPreviewed, DeletionId, group, open_deletions
from cluster.cli.output import emit
from cluster.cli.target import DeletionTarget, with_options


@group.command("approve")
@with_options
def approve(target: DeletionTarget, deletion_id: DeletionId, preview: AsPreviewed = None) -> None:
    """Approve a deletion that waits for it, so that it is carried out; never one of one's own.

    With --url, the API key needs the scope approve and another name than the key that requested it. Without, the name
    is that of the user of this machine. `lmeraser preview --deletion ID` says what the deletion would do.

    Example: lmeraser deletions approve 4f0c… --url https://lmeraser.example.org --api-key-file officer.key
    """
    with open_deletions(target) as deletions:
        emit(asdict(deletions.approve(deletion_id, preview=preview)), target.as_json)


@group.command("decline")
@with_options
def decline(
    target: DeletionTarget,
    deletion_id: DeletionId,
    reason: Annotated[str, typer.Option(help="Why; it stays in the log for good, in clear.")],
) -> None:
    """Decline a deletion that waits for approval; nothing is erased.

    Example: lmeraser deletions decline 4f0c… --reason "not the data subject" --store /data/gtsrb-store
    """
    with open_deletions(target) as deletions:
        emit(asdict(deletions.decline(deletion_id, reason=reason)), target.as_json)
