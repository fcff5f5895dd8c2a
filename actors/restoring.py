"""Restoring (decision 28): a newer log is applied to an older copy of the store, so that no deleted row is restored.

First the copy is marked, and nothing opens it while the mark is there. Then the newer records are added to its log. The
commits among them name objects that the copy does not hold, so a coordinator goes on from the copy's own newest commit.
It erases, like any deletion, the rows that are erased according to the newer log; its commit follows the newer log.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actors.coordinator import Coordinator
from actors.owners import InProcessOwners
from lmeraser.errors import LogError, NotReadyError, OwnerFailedError
from lmeraser.hashing import HashKey, canonical_json
from lmeraser.proof.mirror import copy_record, in_common, read_mirror
from lmeraser.state.commit import Commit, commits_in
from lmeraser.state.layout import RESTORING, record_object
from lmeraser.state.log import Log, Record
from lmeraser.state.manifest import Manifest, load_manifest
from lmeraser.state.record_bodies import RequestBody, deletions_of
from lmeraser.store import Store, unfenced

if TYPE_CHECKING:
    from lmeraser.state.pipeline import Pipeline


@dataclass(frozen=True)
class RestoreResult:
    """What a restore did.

    Attributes:
        records: how many newer records were applied; if there were none, nothing was changed.
        erased: how many rows of the copy were erased.
        rows: how many rows remain.
        rows_then: how many rows the store held at the end of the newer log; if more, some must be ingested again.
        state_root: of the restored state.
        deletions: ids of the deletions that erased the rows, each with its receipt.
    """

    records: int
    erased: int
    rows: int
    rows_then: int
    state_root: str
    deletions: tuple[str, ...]


@dataclass(frozen=True)
class _Mark:
    """The mark of a restore: numbers of the copy's last record and newest commit, and of the last record to add."""

    own: int
    commit: int
    last: int


def restore(store: Store, mirror: Store, hash_key: HashKey, signing_key: Ed25519PrivateKey) -> RestoreResult:
    """Apply the mirrored log to the store; an interrupted restore is finished.

    Raises:
        StoreFormatError: when this is not a store, or the mirror is not one of its log.
        LogError: when a chain is broken, the two logs diverge, or the mirrored one is older.
        NotReadyError: when the copy holds no commit.
        KeysError: when the hash key is not the store's.
        ObjectMissingError, ObjectCorruptError: when rows of the copy are not what its newest commit names.
        OwnerFailedError: when rows cannot be written, for example for lack of memory.
    """
    manifest = load_manifest(store, restoring=True)
    newer = read_mirror(mirror, manifest.store_id)
    mark = _read_mark(store) or _make_mark(store, manifest, hash_key, newer)
    if mark is None:
        commit = commits_in(Log(store).advance())[-1]
        return RestoreResult(0, 0, commit.rows, commit.rows, commit.root, ())
    _drop_own_starts(store, newer, mark)
    have = len(Log(store).advance())
    for record in newer[max(mark.own, have) : mark.last]:
        copy_record(mirror, store, record)
    return _erase_again(store, manifest, hash_key, signing_key, mark, newer[: mark.last])


def _make_mark(store: Store, manifest: Manifest, hash_key: HashKey, newer: list[Record]) -> _Mark | None:
    """Mark the copy; None if both logs end at the same record."""
    own = Log(store).advance()
    common = in_common(own, newer)
    if common < len(newer) and own[common:]:
        _check_only_starts(store, own[common:])
        own = own[:common]
    commits = commits_in(own)
    if not commits:
        raise NotReadyError(f"{store.uri} holds no commit, so there is nothing to restore")
    manifest.check_hash_key(commits[-1].fixed_leaves, hash_key)
    if len(newer) < len(own):
        raise LogError(
            f"the mirrored log ends at record {len(newer)} and the copy's own at {len(own)}: it is older than the copy "
            "and does not have the deletions since; give the newest mirror"
        )
    if len(newer) == len(own):
        return None
    mark = _Mark(len(own), commits[-1].number, len(newer))
    store.put(RESTORING, canonical_json(asdict(mark)))
    return mark


def _check_only_starts(store: Store, since: list[Record]) -> None:
    """Check that a copy that was opened before its restore has only records of starts of its own."""
    changes = sum(record.kind != "term" for record in since)
    if changes:
        raise LogError(
            f"the two logs diverge at record {since[0].number}: {store.uri} was opened at {since[0].at} without a "
            f"restore, and {changes} record(s) were added to its own history since. Take a fresh copy that nothing has "
            "opened, and restore that"
        )


def _drop_own_starts(store: Store, newer: list[Record], mark: _Mark) -> None:
    """Remove records of starts that diverge from the newer log, the last first so that the chain stays whole."""
    own = Log(store).advance()
    common = in_common(own, newer)
    if common >= mark.last:
        return
    for record in reversed(own[common:]):
        store.purge(record_object(record.number), unfenced)


def _read_mark(store: Store) -> _Mark | None:
    return _Mark(**json.loads(store.get(RESTORING))) if store.exists(RESTORING) else None


def _erase_again(
    store: Store,
    manifest: Manifest,
    hash_key: HashKey,
    signing_key: Ed25519PrivateKey,
    mark: _Mark,
    newer: list[Record],
) -> RestoreResult:
    """Erase what is erased according to the newer log, make at least one commit, and remove the mark."""
    log = Log(store).advance()
    copied = next(commit for commit in commits_in(log) if commit.number == mark.commit)
    # An interrupted restore goes on from the last commit that it has made (decision 28).
    base = next(reversed(_commits_after(log, mark)), copied)

    def pipeline() -> Pipeline:
        # Only here: what erases needs no torch.
        from lmeraser.state.pipeline_loading import load_pipeline

        return load_pipeline(store, manifest)

    owners = InProcessOwners(store, manifest, hash_key, pipeline)
    coordinator = Coordinator(store, manifest, hash_key, signing_key, owners, manifest.lease_s, base)
    # A tuning needs the numerics of the store, and an erasure does not.
    coordinator.hold_tunings("the store is being restored")
    _erase_held(coordinator, set(_erased_since(newer, mark.commit)))
    made = _commits_after(Log(store).advance(), mark)
    if not made:
        coordinator.commit_again()
        made = _commits_after(Log(store).advance(), mark)
    store.purge(RESTORING, coordinator.check_term)
    return RestoreResult(
        records=mark.last - mark.own,
        erased=copied.rows - made[-1].rows,
        rows=made[-1].rows,
        rows_then=commits_in(newer)[-1].rows,
        state_root=made[-1].root,
        deletions=tuple(dict.fromkeys(name for commit in made for name in commit.requests)),
    )


def _erase_held(coordinator: Coordinator, hashes: Collection[str]) -> None:
    """Delete every stored row that is named by one of these keyed hashes, and return once they are erased.

    Raises:
        OwnerFailedError: when rows cannot be erased.
    """
    coordinator.delete_again(hashes)
    while any(deletion.status == "accepted" for deletion in coordinator.recent_deletions()):
        coordinator.step()
        for reason in coordinator.status().held_up.values():
            raise OwnerFailedError(f"{reason}; fix the cause, then run the same command again")


def _erased_since(records: list[Record], commit: int) -> Iterator[str]:
    """Keyed hashes of all that was to be deleted and that the commit with this number may still hold."""
    commits = commits_in(records)
    done = {
        erasure.id for each in commits if each.number <= commit for erasure in each.erasures if not erasure.remaining
    }
    approved = {name for record in records if record.kind == "approved" for name in deletions_of(record)}
    for record in records:
        for request in RequestBody.all_from(record) if record.kind == "request" else ():
            if request.id not in done and (request.id in approved or not request.awaits_approval):
                yield from request.hashes()
    for erasure in (erasure for each in commits if each.number > commit for erasure in each.erasures):
        yield from (*erasure.samples, *erasure.subjects)


def _commits_after(records: list[Record], mark: _Mark) -> list[Commit]:
    """The commits that the restore has made."""
    return [commit for commit in commits_in(records) if commit.number > mark.last]
