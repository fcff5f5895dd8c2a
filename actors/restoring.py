"""Restoring: a newer log is applied to an older copy of the store, so that nothing that was deleted since comes back.

The copy is marked first, and nothing opens it while the mark is there. Then the newer records are added to its log. The
commits among them name objects that the copy does not hold, so a coordinator goes on from the copy's own newest commit;
it erases, as for any deletion, the rows that the newer log has as erased, and its commit follows the newer log.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actors.coordinator import Coordinator
from actors.owners import InProcessOwners
from actors.requests import MAX_IDS
from lmeraser.deletion import DeletionRequest
from lmeraser.errors import LogError, NotReadyError, OwnerFailedError
from lmeraser.hashing import HashKey, canonical_json
from lmeraser.proof.mirror import copy_record, in_common, read_mirror
from lmeraser.proof.receipts import row_hashes
from lmeraser.state.commit import Commit, commits_in
from lmeraser.state.fingerprint import check_fingerprint, fingerprint
from lmeraser.state.layout import RESTORING, record_object
from lmeraser.state.log import Log, Record
from lmeraser.state.manifest import Manifest, load_manifest
from lmeraser.state.pipeline_loading import load_pipeline
from lmeraser.state.record_bodies import RequestBody
from lmeraser.store import Store, unfenced


@dataclass(frozen=True)
class RestoreResult:
    """What a restore did.

    Attributes:
        records: how many newer records were applied; with none, nothing was changed.
        erased: how many rows of the copy were erased.
        rows: how many rows are left.
        rows_then: how many the store held at the end of the newer log; more means rows that must be ingested again.
        state_root: of the restored state.
        deletions: ids of the deletions that erased the rows, each with its receipt.
    """

    records: int
    erased: int
    rows: int
    rows_then: int
    state_root: str
    deletions: tuple[str, ...]


class RestoringCoordinator(Coordinator):
    """A coordinator over a copy that is being restored."""

    def held(self, hashes: Collection[str]) -> list[str]:
        """Ids of the samples that are held and whose keyed hash, or whose subject's, is among these."""
        index, key = self._committer.index, self._hash_key
        return [
            sample_id
            for sample_id, subject_id in zip(index.sample_ids, index.subject_ids, strict=True)
            if not row_hashes(key, sample_id, subject_id).isdisjoint(hashes)
        ]

    def commit_again(self) -> None:
        """Commit the state as it is."""
        self._committer.apply()

    def unmark(self) -> None:
        """Remove the mark that keeps others from opening the copy."""
        self._store.purge(RESTORING, self._journal.check)


@dataclass(frozen=True)
class _Mark:
    """What the copy says about its restore: its own last record and newest commit, and the last record to add."""

    own: int
    commit: int
    last: int


def restore(store: Store, mirror: Store, hash_key: HashKey, signing_key: Ed25519PrivateKey) -> RestoreResult:
    """Apply the mirrored log to the store; one that was broken off is finished.

    Raises:
        StoreFormatError: when the store is none, or the mirror is none of its.
        LogError: when a chain is broken, the two logs part, or the mirrored one is the older.
        NotReadyError: when the copy holds no commit.
        KeysError: when the hash key is not the store's.
        FingerprintError: when the numerics here are not the store's.
        ObjectMissingError, ObjectCorruptError: when rows of the copy are not what its newest commit names.
        OwnerFailedError: when rows cannot be written anew, for want of memory for example.
    """
    manifest = load_manifest(store, restoring=True)
    # Heads are solved here, so the numerics count.
    check_fingerprint(manifest.fingerprint, fingerprint(manifest.feature_batch, manifest.fingerprint["accelerator"]))
    newer = read_mirror(mirror, manifest.store_id)
    mark = _read_mark(store) or _make_mark(store, manifest, hash_key, newer)
    if mark is None:
        commit = commits_in(Log(store).advance())[-1]
        return RestoreResult(0, 0, commit.rows, commit.rows, commit.root, ())
    _cut(store, newer, mark)
    have = len(Log(store).advance())
    for record in newer[max(mark.own, have) : mark.last]:
        copy_record(mirror, store, record)
    return _erase_again(store, manifest, hash_key, signing_key, mark, newer[: mark.last])


def _make_mark(store: Store, manifest: Manifest, hash_key: HashKey, newer: list[Record]) -> _Mark | None:
    """Mark the copy; None when both logs end at the same record."""
    own = Log(store).advance()
    common = in_common(own, newer)
    if common < len(newer) and own[common:]:
        _check_nothing_was_done(store, own[common:])
        own = own[:common]
    commits = commits_in(own)
    if not commits:
        raise NotReadyError(f"{store.uri} holds no commit, so there is nothing in it to restore")
    manifest.check_hash_key(commits[-1].fixed_leaves, hash_key)
    if len(newer) < len(own):
        raise LogError(
            f"the mirrored log ends at record {len(newer)} and the copy's own at {len(own)}: it is older than the copy "
            "and knows nothing of what was deleted since; give the newest mirror"
        )
    if len(newer) == len(own):
        return None
    mark = _Mark(len(own), commits[-1].number, len(newer))
    store.put(RESTORING, canonical_json(asdict(mark)))
    return mark


def _check_nothing_was_done(store: Store, since: list[Record]) -> None:
    """Check that a copy that was opened before it was restored holds no more than the records of its starts."""
    done = sum(record.kind != "term" for record in since)
    if done:
        raise LogError(
            f"the two logs part at record {since[0].number}: {store.uri} was opened at {since[0].at} without a "
            f"restore, and {done} record(s) were added to its own history since. Take a fresh copy, one that nothing "
            "has opened, and restore that"
        )


def _cut(store: Store, newer: list[Record], mark: _Mark) -> None:
    """Take records of starts out of the copy's log where the newer one has others; the last first, so that it holds."""
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
    log = Log(store).advance()
    own = [commit for commit in commits_in(log) if commit.number > mark.last]
    base = own[-1] if own else Commit.from_record(log[mark.commit - 1])
    owners = InProcessOwners(store, manifest, hash_key, lambda: load_pipeline(store, manifest))
    coordinator = RestoringCoordinator(store, manifest, hash_key, signing_key, owners, manifest.lease_s, base)
    found = coordinator.held(set(_erased_since(newer, mark.commit)))
    for start in range(0, len(found), MAX_IDS):
        coordinator.delete(DeletionRequest(tuple(found[start : start + MAX_IDS])))
    while any(deletion.status == "accepted" for deletion in coordinator.deletions()):
        coordinator.step()
        for reason in coordinator.status()["held_up"].values():
            raise OwnerFailedError(f"{reason}; mend the cause, and give the same command again")
    commits = commits_in(Log(store).advance())
    if commits[-1].number <= mark.last:
        coordinator.commit_again()
        commits = commits_in(Log(store).advance())
    made = [commit for commit in commits if commit.number > mark.last]
    before = Commit.from_record(log[mark.commit - 1])
    coordinator.unmark()
    return RestoreResult(
        records=mark.last - mark.own,
        erased=before.rows - made[-1].rows,
        rows=made[-1].rows,
        rows_then=commits_in(newer)[-1].rows,
        state_root=made[-1].root,
        deletions=tuple(name for commit in made for name in commit.requests),
    )


def _erased_since(records: list[Record], commit: int) -> Iterator[str]:
    """Keyed hashes of all that was asked to be deleted and that the commit with this number still holds."""
    commits = commits_in(records)
    done = {erasure.id for each in commits if each.number <= commit for erasure in each.erasures}
    for record in records:
        if record.kind == "request" and (request := RequestBody.from_record(record)).id not in done:
            yield from request.hashes()
    for erasure in (erasure for each in commits if each.number > commit for erasure in each.erasures):
        yield from (*erasure.samples, *erasure.subjects)
