"""Takes deletion requests in: durable first, then acknowledged."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from actors.index import RowIndex
from actors.journal import Journal
from lmeraser.deletion import Deletion
from lmeraser.errors import IdempotencyConflictError, RequestError
from lmeraser.hashing import canonical_json
from lmeraser.keys import HashKey
from lmeraser.receipts import sample_hash, subject_hash
from lmeraser.store import Store

MAX_IDS = 100_000


class Intake:
    """Turns requests into request objects (ids in clear) and records (keyed hashes)."""

    def __init__(self, store: Store, hash_key: HashKey, journal: Journal) -> None:
        self._store = store
        self._hash_key = hash_key
        self._journal = journal
        self._lock = threading.Lock()
        self._unknown_ids: dict[str, tuple[str, ...]] = {}

    def accept(
        self, index: RowIndex, sample_ids: Sequence[str], subject_ids: Sequence[str], idempotency_key: str | None
    ) -> tuple[Deletion, bool]:
        """Accept a deletion; also says whether it is new.

        Raises:
            RequestError: when no id is given, or more than 100,000 are.
            IdempotencyConflictError: when the idempotency key came before with another body.
        """
        given = len(sample_ids) + len(subject_ids)
        if not 1 <= given <= MAX_IDS:
            raise RequestError(f"a deletion names {given} ids; allowed are 1 to {MAX_IDS}")
        body = self._hash_key.of("body", *sorted(set(sample_ids)), "", *sorted(set(subject_ids)))
        idempotency = None if idempotency_key is None else self._hash_key.of("idempotency", idempotency_key)
        with self._lock:
            history = self._journal.history
            if idempotency is not None and idempotency in history.by_idempotency:
                earlier = history.by_idempotency[idempotency]
                if history.bodies[earlier]["body"] != body:
                    raise IdempotencyConflictError(
                        f"this idempotency key belongs to deletion {earlier}, which named other ids"
                    )
                return self.shown(history.deletion(earlier)), False
            known_subjects = {name for name in subject_ids if index.of_subject(name)}
            samples = {name for name in sample_ids if name in index}
            samples.update(name for subject in known_subjects for name in index.of_subject(subject))
            unknown = {name for name in sample_ids if name not in index} | (set(subject_ids) - known_subjects)
            request: dict[str, Any] = {
                "id": uuid.uuid4().hex,
                "sample_ids": sorted(samples),
                "subject_ids": sorted(known_subjects),
                "unknown_ids": sorted(unknown),
                "idempotency": idempotency,
                "body": body,
            }
            self._store.put(self.object_of(request["id"]), canonical_json(request))
            return self._record(request), True

    def adopt(self) -> None:
        """Record requests whose writer died between the request object and its record."""
        for name in self._store.names("requests/"):
            request = json.loads(self._store.get(name))
            if request["id"] not in self._journal.history.deletions:
                self._record(request)

    def shown(self, deletion: Deletion) -> Deletion:
        """The deletion with its unknown ids, while they are still remembered."""
        return replace(deletion, unknown_ids=self._unknown_ids.get(deletion.id, ()))

    def sample_ids(self, request_id: str) -> list[str]:
        """The rows that a request names."""
        names: list[str] = json.loads(self._store.get(self.object_of(request_id)))["sample_ids"]
        return names

    def forget(self, request_id: str) -> None:
        """Purge the ids in clear."""
        self._store.purge(self.object_of(request_id))
        self._unknown_ids.pop(request_id, None)

    @staticmethod
    def object_of(request_id: str) -> str:
        """The name of a request's object."""
        return f"requests/{request_id}.json"

    def _record(self, request: dict[str, Any]) -> Deletion:
        self._journal.append(
            "request",
            {
                "id": request["id"],
                "samples": [sample_hash(self._hash_key, name) for name in request["sample_ids"]],
                "subjects": [subject_hash(self._hash_key, name) for name in request["subject_ids"]],
                "idempotency": request["idempotency"],
                "body": request["body"],
            },
        )
        self._unknown_ids[request["id"]] = tuple(request["unknown_ids"])
        return self.shown(self._journal.history.deletion(request["id"]))
