"""Writes receipts, each before the log record of its step (decision 14)."""

from __future__ import annotations

import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actors.fail_points import FailPoint, fail_point
from actors.journal import Journal
from lmeraser.hashing import HashKey, canonical_json
from lmeraser.proof.receipts import Coverage, sides, statement
from lmeraser.state.layout import DATA_FOLDERS, new_receipt_object, receipts_below
from lmeraser.state.manifest import Manifest
from lmeraser.state.record_bodies import CompletedBody, ErasedBody
from lmeraser.state.signatures import sign
from lmeraser.store import Store


class ReceiptWriter:
    """Signs a deletion's receipt at "erased" and again at "completed"."""

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

    def erased(self, deletion_id: str, *, completed: bool) -> None:
        """Sign that no answer and no object holds the rows any longer, and record it.

        Args:
            deletion_id: of the deletion.
            completed: whether it is completed by the same commit, since no cluster is to be tuned.
        """
        history = self._journal.history
        committed = history.committed[deletion_id]
        coverage = Coverage.of(history.bodies[deletion_id], committed.erasure)
        clusters = committed.erasure.clusters
        times = (history.deletion(deletion_id).accepted_at, self._journal.now())
        changed = sides(committed.before, committed.after, clusters)
        receipt = statement(self._manifest, self._hash_key, deletion_id, coverage, times, changed)
        if completed:
            receipt |= {"completed_at": times[1], "completed": self._completed_by()}
        name = self._put(deletion_id, receipt)
        fail_point(FailPoint.RECEIPT_WRITTEN)
        body = ErasedBody(deletion_id, clusters, coverage.rows, coverage.unknown, times[1], name)
        self._journal.append("erased", body.to_body())
        del self._unrecorded[deletion_id]
        fail_point(FailPoint.ERASED_RECORDED)
        if completed:
            self._journal.append("completed", CompletedBody(deletion_id, times[1], name).to_body())
            fail_point(FailPoint.COMPLETED_RECORDED)

    def completed(self, deletion_id: str) -> None:
        """Add to the receipt that the touched clusters are tuned again, and record it."""
        receipt = self.read(deletion_id)
        at = self._journal.now()
        receipt |= {"completed_at": at, "completed": self._completed_by()}
        name = self._put(deletion_id, receipt)
        fail_point(FailPoint.RECEIPT_COMPLETED)
        self._journal.append("completed", CompletedBody(deletion_id, at, name).to_body())
        del self._unrecorded[deletion_id]
        fail_point(FailPoint.COMPLETED_RECORDED)

    def _completed_by(self) -> dict[str, Any]:
        commit = self._journal.history.commit
        assert commit is not None
        return {"log": commit.number, "root": commit.root}

    def _put(self, deletion_id: str, receipt: dict[str, Any]) -> str:
        """Write a receipt under a unique name, so that a late write of a replaced coordinator overwrites none."""
        # If the step failed before its record, it is taken again, and must not leave a second receipt behind.
        name = self._unrecorded.setdefault(deletion_id, new_receipt_object(deletion_id))
        self._store.put(name, canonical_json(sign(receipt, self._signing_key)))
        return name
