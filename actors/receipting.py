"""Writes receipts, each before the log record that says that its step is done."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actors.boundaries import Boundary, reached
from actors.journal import Journal
from lmeraser.hashing import canonical_json
from lmeraser.keys import HashKey
from lmeraser.manifest import Manifest
from lmeraser.receipts import Change, sign, statement
from lmeraser.store import Store


class Receipting:
    """Signs receipts at "erased" and again at "completed"."""

    def __init__(
        self, store: Store, manifest: Manifest, hash_key: HashKey, signing_key: Ed25519PrivateKey, journal: Journal
    ) -> None:
        self._store = store
        self._manifest = manifest
        self._hash_key = hash_key
        self._signing_key = signing_key
        self._journal = journal
        # Requests that one commit erases have receipts that differ in little.
        self._change = lru_cache(maxsize=1)(self._read_change)

    def read(self, deletion_id: str) -> dict[str, Any]:
        """The receipt as it stands."""
        receipt: dict[str, Any] = json.loads(self._store.get(f"receipts/{deletion_id}.json"))
        return receipt

    def erased(self, deletion_id: str) -> None:
        """Sign that no answer and no object holds the rows any more, and record it."""
        history = self._journal.history
        change = self._change(*history.committed[deletion_id])
        body = history.bodies[deletion_id]
        accepted_at = history.deletion(deletion_id).accepted_at
        erased_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        receipt = statement(self._manifest, self._hash_key, body, accepted_at, erased_at, change)
        self._put(deletion_id, receipt)
        reached(Boundary.RECEIPT_WRITTEN)
        self._journal.append("erased", {"id": deletion_id, "clusters": list(change.clusters)})
        reached(Boundary.ERASED_RECORDED)

    def completed(self, deletion_id: str) -> None:
        """Add to the receipt that the touched clusters are tuned again, and record it."""
        commit = self._journal.history.commit
        assert commit is not None
        receipt = self.read(deletion_id)
        receipt["completed_at"] = datetime.now(UTC).isoformat(timespec="milliseconds")
        receipt["completed"] = {"log": commit.number, "root": commit.root}
        self._put(deletion_id, receipt)
        reached(Boundary.RECEIPT_COMPLETED)
        self._journal.append("completed", {"id": deletion_id})
        reached(Boundary.COMPLETED_RECORDED)

    def _read_change(self, before_number: int, after_number: int) -> Change:
        return Change.between(self._journal.commit_at(before_number), self._journal.commit_at(after_number))

    def _put(self, deletion_id: str, receipt: dict[str, Any]) -> None:
        self._store.put(f"receipts/{deletion_id}.json", canonical_json(sign(receipt, self._signing_key)))
