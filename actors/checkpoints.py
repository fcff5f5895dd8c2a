"""What the coordinator keeps of the log in a checkpoint, and what it moves out of its memory then.

Completed deletions go to an archive, and what they named to a run of keyed hashes (actors.erased_hashes). So the
history in memory and in a checkpoint grows with the pending work, not with the age of the store.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actors.erased_hashes import run_of
from actors.fail_points import FailPoint, fail_point
from actors.log_replay import Attempts, History
from lmeraser.clock import hours_ago
from lmeraser.deletion import Deletion
from lmeraser.errors import UnknownDeletionError
from lmeraser.hashing import canonical_json
from lmeraser.state.checkpoint import Checkpoint, newest_checkpoint, write_checkpoint
from lmeraser.state.layout import archive_object, erased_object, receipts_below
from lmeraser.state.log import Log, Record
from lmeraser.state.record_bodies import RequestBody
from lmeraser.store import Fence, Store

# A start reads at most about so many commits, or so many records about one deletion each, after a checkpoint.
MAX_COMMITS = 64
MAX_RECORDS = 1024
# For so long a repeated request with the same idempotency key gets the first answer.
IDEMPOTENCY_H = 24


def opened_history(store: Store) -> tuple[Log, History]:
    """The log and its history at the newest checkpoint; without one, before the first record."""
    checkpoint = newest_checkpoint(store)
    if checkpoint is None:
        return Log(store), History()
    return Log(store, checkpoint.head), _history_from(checkpoint)


def is_due(history: History) -> bool:
    """Whether a checkpoint should be written now."""
    if history.since["commit"] < MAX_COMMITS and history.since.total() < MAX_RECORDS:
        return False
    # What is half done is in the records, and in no checkpoint.
    erasing = any(history.deletions[name].status == "accepted" for name in history.committed)
    return not (erasing or history.partial or history.restored)


def checkpoint_now(store: Store, history: History, head: Record, key: Ed25519PrivateKey, fence: Fence) -> None:
    """Archive what is settled, and write a checkpoint.

    Args:
        store: the store.
        history: of all records up to ``head``; what is settled is removed from it.
        head: the last record.
        key: signs the checkpoint.
        fence: raises once another coordinator has taken over.
    """
    forgotten = hours_ago(IDEMPOTENCY_H)
    settled = [each for each in history.deletions.values() if _is_settled(history, each, forgotten)]
    if settled:
        archived = {"previous": history.archive, "deletions": [asdict(each) for each in settled]}
        store.put(archive_object(head.number), canonical_json(archived))
    if history.erased:
        store.put(erased_object(head.number), run_of(history.erased))
    fail_point(FailPoint.ARCHIVED)
    after = replace(history, archive=head.number, archived=history.archived + len(settled)) if settled else history
    left = {each.id for each in settled}
    write_checkpoint(store, Checkpoint(head, history.commit, _to_json(after, left)), key, fence)
    fail_point(FailPoint.CHECKPOINT_WRITTEN)
    history.leave_out(left, after.archive)


def archives(store: Store, newest: int, last: int = 0) -> Iterator[tuple[int, list[Deletion]]]:
    """The archives of completed deletions, from the newest back to the one after ``last``.

    Each comes with its number, and its deletions the newest first.
    """
    number = newest
    while number > last:
        value = json.loads(store.get(archive_object(number)))
        yield number, [_deletion_from(each) for each in reversed(value["deletions"])]
        number = value["previous"]


def archived_deletion(store: Store, deletion_id: str) -> tuple[Deletion, dict[str, Any]]:
    """A completed deletion that may have left the history, with its receipt, which says all that is known of it.

    Raises:
        UnknownDeletionError: when no completed deletion has this id.
    """
    names = store.names(receipts_below(deletion_id)) if deletion_id.isalnum() else []
    for receipt in (json.loads(store.get(name)) for name in names):
        if receipt["completed_at"] is not None:
            return _deletion_of(receipt), receipt
    raise UnknownDeletionError(f"no deletion has the id {deletion_id!r}")


def _is_settled(history: History, deletion: Deletion, forgotten: str) -> bool:
    if deletion.status != "completed" or deletion.completed_at is None:
        return False
    return history.bodies[deletion.id].idempotency is None or deletion.completed_at < forgotten


def _to_json(history: History, left: set[str]) -> dict[str, Any]:
    """The history without these deletions, and without what was named so far."""
    return {
        "term": history.term,
        "archived": history.archived,
        "archive": history.archive,
        "deletions": [_open_to_json(history, each) for each in history.deletions.values() if each.id not in left],
        "rebuild": history.rebuild,
        "approval": history.approval,
        "attempts": {leaf: asdict(each) for leaf, each in history.attempts.items()},
    }


def _open_to_json(history: History, deletion: Deletion) -> dict[str, Any]:
    body = history.bodies[deletion.id]
    if deletion.status in ("completed", "declined"):
        # Needed only to answer a repeated request.
        body = replace(body, samples=(), subjects=())
    waiting = history.waiting.get(deletion.id)
    return {
        "deletion": asdict(deletion),
        "body": body.to_body(),
        "receipts": history.receipts.get(deletion.id, []),
        "waiting": None if waiting is None else sorted(waiting),
    }


def _history_from(checkpoint: Checkpoint) -> History:
    value = checkpoint.history
    history = History(term=value["term"], commit=checkpoint.commit, origin=checkpoint.commit)
    if checkpoint.commit is not None:
        history.commits[checkpoint.commit.number] = checkpoint.commit
    history.archived, history.archive = value["archived"], value["archive"]
    for each in value["deletions"]:
        deletion, body = _deletion_from(each["deletion"]), RequestBody.from_body(each["body"])
        history.deletions[deletion.id], history.bodies[deletion.id] = deletion, body
        if body.idempotency is not None:
            history.by_idempotency[body.idempotency] = deletion.id
        if each["receipts"]:
            history.receipts[deletion.id] = each["receipts"]
        if each["waiting"] is not None:
            history.waiting[deletion.id] = set(each["waiting"])
    history.rebuild = value["rebuild"]
    # A checkpoint of store format 10 has none.
    history.approval = value.get("approval", False)
    history.attempts = {leaf: Attempts(**each) for leaf, each in value["attempts"].items()}
    return history


def _deletion_of(receipt: Mapping[str, Any]) -> Deletion:
    return Deletion(
        receipt["deletion"],
        "completed",
        receipt["rows"],
        receipt["accepted_at"],
        receipt["unknown"],
        clusters=tuple(receipt["clusters"]),
        erased_at=receipt["erased_at"],
        completed_at=receipt["completed_at"],
    )


def _deletion_from(value: Mapping[str, Any]) -> Deletion:
    return Deletion(**{**value, "clusters": tuple(value["clusters"]), "unknown_ids": tuple(value["unknown_ids"])})
