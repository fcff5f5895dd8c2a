"""Writes receipts, each before the log record of its step (decision 14)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actors.fail_points import FailPoint, fail_point
from actors.journal import Journal
from lmeraser.hashing import HashKey, canonical_json
from lmeraser.parallel import in_parallel
from lmeraser.proof.receipts import Coverage, sides, statement
from lmeraser.state.layout import DATA_FOLDERS, new_receipt_object, receipts_below
from lmeraser.state.manifest import Manifest
from lmeraser.state.record_bodies import MOST_DELETIONS, CompletedBody, ErasedBody
from lmeraser.state.signatures import sign
from lmeraser.store import Store


class ReceiptWriter:
    """Signs the receipts of deletions at "erased" and again at "completed"; one record names those of a commit."""

    def __init__(
        self, store: Store, manifest: Manifest, hash_key: HashKey, signing_key: Ed25519PrivateKey, journal: Journal
    ) -> None:
        self._store = store
        self._manifest = manifest
        self._hash_key = hash_key
        self._signing_key = signing_key
        self._journal = journal
        self._unrecorded: dict[str, str] = {}

    def read(self, deletion_id: str) -> dict[str, Any]:
        """The current receipt: the one that the log names."""
        receipt: dict[str, Any] = json.loads(self._store.get(self._journal.history.receipts[deletion_id][-1]))
        return receipt

    def tidy(self) -> None:
        """Remove receipts that no record names, whose writer died or was replaced before it could record them."""
        # Half-written receipts and log records; the sweep removes other half-written objects.
        self._store.purge_partial(lambda name: name.startswith(DATA_FOLDERS), self._journal.check)
        history = self._journal.history
        pending = (each.id for each in history.deletions.values() if each.status != "completed")
        for deletion_id in history.active.union(pending):
            named = history.receipts.get(deletion_id, ())
            self._store.purge_below(receipts_below(deletion_id), named.__contains__, self._journal.check)

    def erased(self, deletion_ids: Sequence[str], is_completed: Callable[[str], bool]) -> None:
        """Sign that no answer and no object holds the rows any longer, and record it.

        Args:
            deletion_ids: of the deletions.
            is_completed: whether a deletion is completed by the same commit, since no cluster is to be tuned.
        """
        for ids in _groups(deletion_ids):
            at = self._journal.now()
            completed = set(filter(is_completed, ids))
            names = self._put({each: self._statement(each, at, each in completed) for each in ids})
            fail_point(FailPoint.RECEIPT_WRITTEN)
            self._journal.append_deletions("erased", [self._erased_body(each, at, names[each]) for each in ids])
            self._recorded(ids)
            fail_point(FailPoint.ERASED_RECORDED)
            if completed:
                bodies = [CompletedBody(each, at, names[each]) for each in ids if each in completed]
                self._journal.append_deletions("completed", bodies)
                fail_point(FailPoint.COMPLETED_RECORDED)

    def completed(self, deletion_ids: Sequence[str]) -> None:
        """Add to the receipts that the touched clusters are tuned again, and record it."""
        for ids in _groups(deletion_ids):
            at = self._journal.now()
            completion = {"completed_at": at, "completed": self._completed_by()}
            receipts = dict(zip(ids, in_parallel(self.read, ids), strict=True))
            names = self._put({each: receipt | completion for each, receipt in receipts.items()})
            fail_point(FailPoint.RECEIPT_COMPLETED)
            self._journal.append_deletions("completed", [CompletedBody(each, at, names[each]) for each in ids])
            self._recorded(ids)
            fail_point(FailPoint.COMPLETED_RECORDED)

    def _statement(self, deletion_id: str, at: str, is_completed: bool) -> dict[str, Any]:
        """The receipt of a deletion that was erased at this time."""
        history = self._journal.history
        committed = history.committed[deletion_id]
        times = (history.deletion(deletion_id).accepted_at, at)
        changed = sides(committed.before, committed.after, committed.erasure.clusters)
        receipt = statement(self._manifest, self._hash_key, deletion_id, self._coverage(deletion_id), times, changed)
        if is_completed:
            receipt |= {"completed_at": at, "completed": self._completed_by()}
        return receipt

    def _erased_body(self, deletion_id: str, at: str, name: str) -> ErasedBody:
        coverage = self._coverage(deletion_id)
        clusters = self._journal.history.committed[deletion_id].erasure.clusters
        return ErasedBody(deletion_id, clusters, coverage.rows, coverage.unknown, at, name)

    def _coverage(self, deletion_id: str) -> Coverage:
        history = self._journal.history
        return Coverage.of(history.bodies[deletion_id], history.committed[deletion_id].erasure)

    def _completed_by(self) -> dict[str, Any]:
        commit = self._journal.history.commit
        assert commit is not None
        return {"log": commit.number, "root": commit.root}

    def _put(self, receipts: Mapping[str, dict[str, Any]]) -> dict[str, str]:
        """Write receipts under unique names, so that a late write of a replaced coordinator overwrites none."""
        # If the step failed before its record, it is taken again, and must not leave other receipts behind.
        names = {each: self._unrecorded.setdefault(each, new_receipt_object(each)) for each in receipts}

        def put(deletion_id: str) -> None:
            signed = sign(receipts[deletion_id], self._signing_key)
            self._store.put(names[deletion_id], canonical_json(signed))

        in_parallel(put, receipts)
        return names

    def _recorded(self, deletion_ids: Iterable[str]) -> None:
        for deletion_id in deletion_ids:
            del self._unrecorded[deletion_id]


def _groups(deletion_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """What one record is about."""
    return (deletion_ids[start : start + MOST_DELETIONS] for start in range(0, len(deletion_ids), MOST_DELETIONS))
