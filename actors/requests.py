"""Accepts deletion requests: they are durable before they are acknowledged."""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from actors.allowance import Allowance
from actors.fail_points import FailPoint, fail_point
from actors.journal import Journal
from actors.row_index import RowIndex
from lmeraser.clock import timestamp
from lmeraser.deletion import Deletion, DeletionRequest
from lmeraser.errors import IdempotencyConflictError, LogError, ObjectMissingError, RequestError, StoreError
from lmeraser.hashing import HashKey, canonical_json, sample_hash, subject_hash
from lmeraser.ids import fault_of_id, is_text
from lmeraser.state.layout import DATA_FOLDERS, REQUESTS, deletion_of_request, request_object
from lmeraser.state.record_bodies import RequestBody
from lmeraser.store import Store, unfenced

MAX_IDS = 100_000
_FIELDS = {"id", "sample_ids", "subject_ids", "idempotency", "body", "deadline"}
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Resolution:
    """What a request covers at the moment when its rows are erased (decision 42).

    Attributes:
        id, object: the request's id, and the name of its object.
        rows: sample ids of the stored rows that it covers.
        samples, subjects: keyed hashes that it covers beyond those of its record, see
            :class:`lmeraser.state.commit.Erasure`.
    """

    id: str
    object: str
    rows: frozenset[str]
    samples: tuple[str, ...]
    subjects: tuple[str, ...]


class Requests:
    """Turns requests into request objects (ids in clear) and records (keyed hashes)."""

    def __init__(
        self, store: Store, hash_key: HashKey, journal: Journal, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._hash_key = hash_key
        self._journal = journal
        self._allowance = Allowance(clock)
        self._lock = threading.Lock()
        self._refused: list[str] = []

    def accept(self, index: RowIndex, request: DeletionRequest) -> tuple[Deletion, bool]:
        """Accept a deletion; also says whether it is new.

        Raises:
            RequestError: when no id is given, or more than 100,000 are, or one is empty, too long or not text, or the
                idempotency key is not text, or the deadline is not a time with an offset.
            RateLimitError: when too many ids came that the system does not hold.
            IdempotencyConflictError: when the idempotency key came before with other ids.
            StoreError: when the request cannot be written; it is not accepted then.
        """
        _check(request)
        stored = self._stored(request)
        record = self._record_of(stored, index)
        with self._lock:
            existing = self._existing(stored)
            if existing is None:
                self._allowance.take(record.unknown, rows=len(record.samples))
                self._write(stored, record)
        return self._answer(existing or stored["id"], stored), existing is None

    def adopt(self, index: RowIndex) -> None:
        """Finish what dead writers have left: record requests without a record, purge those that are erased."""
        # Half-written requests, receipts and log records; the sweep removes other half-written objects.
        self._store.purge_partial(lambda name: name.startswith(DATA_FOLDERS), self._journal.check)
        history = self._journal.history
        for name in self._store.names(REQUESTS):
            request = self._read(name)
            deletion = history.deletions.get(deletion_of_request(name))
            if deletion is not None:
                if deletion.status != "accepted":
                    self._store.purge(name, self._journal.check)
            elif request is None or request["idempotency"] in history.by_idempotency:
                # Never acknowledged: it is damaged, or the client repeated it and the other copy was accepted.
                self._store.purge(name, self._journal.check)
            else:
                self._journal.append("request", self._record_of(request, index).to_body())

    def resolve(self, request_id: str, index: RowIndex) -> Resolution:
        """The rows of the index that a request names, by id or by subject; a damaged request is rebuilt.

        They are looked up at the erasure and not at the acceptance, so that rows which an ingest has added in between
        are among them (decision 42).
        """
        name = request_object(request_id)
        recorded = self._journal.history.bodies[request_id]
        request = self._read(name)
        if request is None or self._body(request) != recorded.body:
            # If a successor has carried it out, the object is missing permanently, and this coordinator must stop.
            self._journal.check()
            _log.error("%s is damaged; it is rebuilt from the log", name)
            request = self._rebuilt(recorded, index)
            self._store.put(name, canonical_json(request))
        covered = {each: sample_hash(self._hash_key, each) for each in _rows_of(request, index)}
        subjects = {subject_hash(self._hash_key, each) for each in request["subject_ids"] if index.of_subject(each)}
        return Resolution(
            request_id,
            name,
            frozenset(covered),
            tuple(sorted(set(covered.values()).difference(recorded.samples))),
            tuple(sorted(subjects.difference(recorded.subjects))),
        )

    def forget(self, request_id: str) -> None:
        """Purge a request's ids in clear, and those of requests that could not be recorded."""
        self._store.purge(request_object(request_id), self._journal.check)
        with self._lock:
            self._purge_refused()

    def _stored(self, request: DeletionRequest) -> dict[str, Any]:
        """The content of a new request object."""
        key = request.idempotency_key
        stored: dict[str, Any] = {
            "id": uuid.uuid4().hex,
            "sample_ids": sorted(set(request.sample_ids)),
            "subject_ids": sorted(set(request.subject_ids)),
            "idempotency": None if key is None else self._hash_key.of("idempotency", key),
            "deadline": _utc(request.deadline),
        }
        stored["body"] = self._body(stored)
        return stored

    def _existing(self, stored: Mapping[str, Any]) -> str | None:
        """The id of the deletion that was accepted before with the same idempotency key."""
        history = self._journal.history
        deletion_id = history.by_idempotency.get(stored["idempotency"])
        if deletion_id is not None and history.bodies[deletion_id].body != stored["body"]:
            raise IdempotencyConflictError(
                f"this idempotency key belongs to deletion {deletion_id}, which named other ids"
            )
        return deletion_id

    def _write(self, stored: Mapping[str, Any], record: RequestBody) -> None:
        """Write the request object, then its record; undo the first when the second fails."""
        name = request_object(stored["id"])
        self._store.put(name, canonical_json(stored))
        fail_point(FailPoint.REQUEST_WRITTEN)
        try:
            self._journal.append("request", record.to_body())
        except (StoreError, LogError):
            # The caller gets an error, so no later coordinator may adopt the request. If the append only seemed to
            # fail, the request can be rebuilt from its record. If a coordinator that took over has adopted it
            # already, the request belongs to that coordinator.
            if stored["id"] not in self._journal.history.deletions:
                self._refused.append(name)
                with suppress(StoreError):
                    self._purge_refused()
            raise
        fail_point(FailPoint.REQUEST_RECORDED)

    def _purge_refused(self) -> None:
        while self._refused:
            # It was never acknowledged. A coordinator that adopts it at this moment rebuilds it from its record.
            self._store.purge(self._refused[-1], unfenced)
            self._refused.pop()

    def _read(self, name: str) -> dict[str, Any] | None:
        """The request, or None if its object is missing or damaged."""
        try:
            request = json.loads(self._store.get(name))
        except (ValueError, ObjectMissingError):
            return None
        return request if isinstance(request, dict) and request.keys() >= _FIELDS else None

    def _body(self, request: Mapping[str, Any]) -> str:
        """A keyed hash of what a request asks for."""
        return self._hash_key.of(
            "body", *request["sample_ids"], "", *request["subject_ids"], "", request["deadline"] or ""
        )

    def _rebuilt(self, recorded: RequestBody, index: RowIndex) -> dict[str, Any]:
        """A request from its record: the ids of the index whose keyed hashes the record has."""
        samples = {*recorded.samples, *recorded.unknown_samples}
        subjects = {*recorded.subjects, *recorded.unknown_subjects}
        return {
            "id": recorded.id,
            "idempotency": recorded.idempotency,
            "deadline": recorded.deadline,
            "body": recorded.body,
            "sample_ids": [each for each in index.sample_ids if sample_hash(self._hash_key, each) in samples],
            "subject_ids": [each for each in index.subjects() if subject_hash(self._hash_key, each) in subjects],
        }

    def _answer(self, deletion_id: str, request: Mapping[str, Any]) -> Deletion:
        """The deletion with the ids that named no row: the same for a repeated request and after a restart."""
        body = self._journal.history.bodies[deletion_id]
        samples, subjects = set(body.unknown_samples), set(body.unknown_subjects)
        unknown = {each for each in request["sample_ids"] if sample_hash(self._hash_key, each) in samples}
        unknown |= {each for each in request["subject_ids"] if subject_hash(self._hash_key, each) in subjects}
        return replace(self._journal.history.deletion(deletion_id), unknown_ids=tuple(sorted(unknown)))

    def _record_of(self, request: Mapping[str, Any], index: RowIndex) -> RequestBody:
        """The record of a request: keyed hashes of the rows that it covers now, and of the ids that name no row."""
        known_subjects = [each for each in request["subject_ids"] if index.of_subject(each)]
        unknown_samples = [each for each in request["sample_ids"] if each not in index]
        unknown_subjects = sorted(set(request["subject_ids"]).difference(known_subjects))
        return RequestBody(
            id=request["id"],
            samples=tuple(sample_hash(self._hash_key, each) for each in sorted(_rows_of(request, index))),
            subjects=tuple(subject_hash(self._hash_key, each) for each in known_subjects),
            unknown_samples=tuple(sample_hash(self._hash_key, each) for each in unknown_samples),
            unknown_subjects=tuple(subject_hash(self._hash_key, each) for each in unknown_subjects),
            idempotency=request["idempotency"],
            body=request["body"],
            deadline=request["deadline"],
        )


def _check(request: DeletionRequest) -> None:
    """Raise RequestError unless every id and the idempotency key is allowed."""
    count = len(request.sample_ids) + len(request.subject_ids)
    if not 1 <= count <= MAX_IDS:
        raise RequestError(f"a deletion names {count} ids; allowed are 1 to {MAX_IDS}")
    for kind, ids in (("sample", request.sample_ids), ("subject", request.subject_ids)):
        if (fault := next(filter(None, map(fault_of_id, ids)), None)) is not None:
            raise RequestError(f"the id of a {kind} {fault}")
    if request.idempotency_key is not None and not is_text(request.idempotency_key):
        raise RequestError(f"the idempotency key is {request.idempotency_key!r}; allowed is Unicode text")


def _rows_of(request: Mapping[str, Any], index: RowIndex) -> set[str]:
    """Sample ids of the rows of the index that a request names, by id or by subject."""
    rows = set(index.present(request["sample_ids"]))
    return rows.union(*(index.of_subject(each) for each in request["subject_ids"]))


def _utc(deadline: str | None) -> str | None:
    if deadline is None:
        return None
    try:
        moment = datetime.fromisoformat(deadline)
        if moment.tzinfo is not None:
            return timestamp(moment)
    except (ValueError, OverflowError):
        # Not a time, or one outside the years 1 to 9999 in UTC.
        pass
    raise RequestError(
        f"the deadline is {deadline!r}; allowed is ISO 8601 with an offset, in the years 1 to 9999 in UTC: "
        "2026-12-24T18:00:00Z"
    )
