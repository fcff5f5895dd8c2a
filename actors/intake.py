"""Takes deletion requests in: durable first, then acknowledged."""

from __future__ import annotations

import json
import logging
import threading
import uuid
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from actors.boundaries import Boundary, reached
from actors.index import RowIndex
from actors.journal import Journal
from lmeraser.commit import DATA_FOLDERS
from lmeraser.deletion import Deletion
from lmeraser.errors import IdempotencyConflictError, ObjectMissingError, RequestError, StoreError
from lmeraser.hashing import canonical_json
from lmeraser.keys import HashKey
from lmeraser.receipts import sample_hash, subject_hash
from lmeraser.store import Store

MAX_IDS = 100_000
_FIELDS = {"id", "sample_ids", "subject_ids", "idempotency", "body", "deadline"}
_log = logging.getLogger(__name__)


class Intake:
    """Turns requests into request objects (ids in clear) and records (keyed hashes)."""

    def __init__(self, store: Store, hash_key: HashKey, journal: Journal) -> None:
        self._store = store
        self._hash_key = hash_key
        self._journal = journal
        self._lock = threading.Lock()
        self._refused: list[str] = []

    def accept(
        self,
        index: RowIndex,
        sample_ids: Sequence[str],
        subject_ids: Sequence[str],
        idempotency_key: str | None,
        deadline: str | None,
    ) -> tuple[Deletion, bool]:
        """Accept a deletion; also says whether it is new.

        Raises:
            RequestError: when no id is given, or more than 100,000 are, or the deadline is no time with an offset.
            IdempotencyConflictError: when the idempotency key came before with another body.
            StoreError: when the request cannot be written; it is not accepted then.
        """
        given = len(sample_ids) + len(subject_ids)
        if not 1 <= given <= MAX_IDS:
            raise RequestError(f"a deletion names {given} ids; allowed are 1 to {MAX_IDS}")
        until = _utc(deadline)
        body = self._hash_key.of("body", *sorted(set(sample_ids)), "", *sorted(set(subject_ids)), "", until or "")
        idempotency = None if idempotency_key is None else self._hash_key.of("idempotency", idempotency_key)
        with self._lock:
            history = self._journal.history
            earlier = history.by_idempotency.get(idempotency) if idempotency is not None else None
            if earlier is not None:
                if history.bodies[earlier]["body"] != body:
                    raise IdempotencyConflictError(
                        f"this idempotency key belongs to deletion {earlier}, which named other ids"
                    )
                return self._answer(earlier, sample_ids, subject_ids), False
            subjects = {name for name in subject_ids if index.of_subject(name)}
            samples = {name for name in sample_ids if name in index}
            samples.update(name for subject in subjects for name in index.of_subject(subject))
            request: dict[str, Any] = {
                "id": uuid.uuid4().hex,
                "sample_ids": sorted(samples),
                "subject_ids": sorted(subjects),
                "idempotency": idempotency,
                "body": body,
                "deadline": until,
            }
            self._store.put(self.object_of(request["id"]), canonical_json(request))
            reached(Boundary.REQUEST_WRITTEN)
            try:
                self._record(request)
            except StoreError:
                # Refused, so it must not be adopted later. Had the append only seemed to fail, the log makes it anew.
                self._refused.append(self.object_of(request["id"]))
                with suppress(StoreError):
                    self._purge_refused()
                raise
            reached(Boundary.REQUEST_RECORDED)
            return self._answer(request["id"], sample_ids, subject_ids), True

    def adopt(self) -> None:
        """Finish what writers left that died: record requests that lack it, purge those that are erased."""
        # What they had half written of requests, receipts and the log; the sweep sees to the rest.
        self._store.purge_partial(lambda name: name.startswith(DATA_FOLDERS))
        history = self._journal.history
        for name in self._store.names("requests/"):
            request = self._read(name)
            deletion = history.deletions.get(name.removeprefix("requests/").removesuffix(".json"))
            if deletion is not None:
                if deletion.status != "accepted":
                    self._store.purge(name)
            elif request is None or request["idempotency"] in history.by_idempotency:
                # Never acknowledged: damaged, or its writer was asked again and the other copy was accepted.
                self._store.purge(name)
            else:
                self._record(request)

    def sample_ids(self, request_id: str, index: RowIndex) -> list[str]:
        """The rows that a request names; a damaged request object is written anew from the record's hashes."""
        name = self.object_of(request_id)
        recorded = self._journal.history.bodies[request_id]
        wanted = set(recorded["samples"])
        request = self._read(name)
        if request is not None and {sample_hash(self._hash_key, one) for one in request["sample_ids"]} == wanted:
            return list(request["sample_ids"])
        _log.error("%s is damaged; it is written anew from the log", name)
        found = [one for one in index.sample_ids if sample_hash(self._hash_key, one) in wanted]
        self._store.put(name, canonical_json({**recorded, "sample_ids": found, "subject_ids": []}))
        return found

    def forget(self, request_id: str) -> None:
        """Purge the ids in clear, and those of requests that could not be recorded."""
        self._store.purge(self.object_of(request_id))
        with self._lock:
            self._purge_refused()

    @staticmethod
    def object_of(request_id: str) -> str:
        """The name of a request's object."""
        return f"requests/{request_id}.json"

    def _purge_refused(self) -> None:
        while self._refused:
            self._store.purge(self._refused[-1])
            self._refused.pop()

    def _read(self, name: str) -> dict[str, Any] | None:
        """The request, or None where its object is gone or damaged."""
        try:
            request = json.loads(self._store.get(name))
        except (ValueError, ObjectMissingError):
            return None
        return request if isinstance(request, dict) and request.keys() >= _FIELDS else None

    def _answer(self, deletion_id: str, sample_ids: Collection[str], subject_ids: Collection[str]) -> Deletion:
        """The deletion with the ids that it does not cover: the same after a repetition and after a restart."""
        body = self._journal.history.bodies[deletion_id]
        samples, subjects = set(body["samples"]), set(body["subjects"])
        unknown = {name for name in sample_ids if sample_hash(self._hash_key, name) not in samples}
        unknown |= {name for name in subject_ids if subject_hash(self._hash_key, name) not in subjects}
        return replace(self._journal.history.deletion(deletion_id), unknown_ids=tuple(sorted(unknown)))

    def _record(self, request: dict[str, Any]) -> None:
        self._journal.append(
            "request",
            {
                "id": request["id"],
                "samples": [sample_hash(self._hash_key, name) for name in request["sample_ids"]],
                "subjects": [subject_hash(self._hash_key, name) for name in request["subject_ids"]],
                "idempotency": request["idempotency"],
                "body": request["body"],
                "deadline": request["deadline"],
            },
        )


def _utc(deadline: str | None) -> str | None:
    if deadline is None:
        return None
    try:
        moment = datetime.fromisoformat(deadline)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError):
        # No time, or one that lies outside the years 1 to 9999 in UTC.
        pass
    raise RequestError(
        f"the deadline is {deadline!r}; allowed is ISO 8601 with an offset, in the years 1 to 9999 in UTC: "
        "2026-12-24T18:00:00Z"
    )
