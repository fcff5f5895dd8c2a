"""Accepts deletion requests: they are durable before they are acknowledged.

A request is recorded in the log with keyed hashes only, so no id is ever stored in clear (decision 50).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from actors.journal import Journal
from actors.request_groups import RequestGroups
from actors.row_index import RowIndex, Rows
from lmeraser.clock import timestamp
from lmeraser.deletion import Deletion, DeletionRequest
from lmeraser.errors import RequestError
from lmeraser.hashing import HashKey, sample_hash, subject_hash
from lmeraser.ids import fault_of_id, is_text
from lmeraser.state.record_bodies import RequestBody

MAX_IDS = 100_000


@dataclass(frozen=True)
class Resolution:
    """What a request covers at the moment when its rows are erased (decision 42).

    Attributes:
        id: the request's id.
        rows: the stored rows that it covers.
        samples, subjects: keyed hashes that it covers beyond those of its record, see
            :class:`lmeraser.state.commit.Erasure`.
    """

    id: str
    rows: Rows
    samples: tuple[str, ...]
    subjects: tuple[str, ...]


class Requests:
    """Turns requests into records of keyed hashes."""

    def __init__(self, hash_key: HashKey, journal: Journal, clock: Callable[[], float] = time.monotonic) -> None:
        self._hash_key = hash_key
        self._journal = journal
        self._groups = RequestGroups(journal, clock)

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
        samples = {sample_hash(self._hash_key, each): each for each in sorted(set(request.sample_ids))}
        subjects = {subject_hash(self._hash_key, each): each for each in sorted(set(request.subject_ids))}
        record = replace(
            _covered(index, samples, subjects),
            idempotency=None
            if request.idempotency_key is None
            else self._hash_key.of("idempotency", request.idempotency_key),
            body=self._hash_key.of("body", *samples.values(), "", *subjects.values(), "", _utc(request.deadline) or ""),
            deadline=_utc(request.deadline),
        )
        accepted = self._groups.record(record)
        named = [(accepted.body.unknown_samples, samples), (accepted.body.unknown_subjects, subjects)]
        unknown = sorted({ids[each] for hashes, ids in named for each in hashes if each in ids})
        return replace(accepted.deletion, unknown_ids=tuple(unknown)), accepted.new

    def accept_again(self, index: RowIndex, samples: Iterable[str]) -> str:
        """Accept a deletion of the rows whose samples have these keyed hashes, at most 100,000; gives its id."""
        return self._groups.record(_covered(index, dict.fromkeys(samples, ""), {})).deletion.id

    def accept_hashes(self, index: RowIndex, samples: Iterable[str], subjects: Iterable[str]) -> str:
        """Accept a deletion of the samples and subjects with these keyed hashes, however many; gives its id."""
        record = _covered(index, dict.fromkeys(samples, ""), dict.fromkeys(subjects, ""))
        self._journal.append_deletions("request", [record])
        return record.id

    def resolve(self, request_id: str, index: RowIndex) -> Resolution:
        """The rows of the index that a request names, by sample or by subject.

        They are looked up at the erasure and not at the acceptance, so that rows which an ingest has added in between
        are among them (decision 42).
        """
        recorded = self._journal.history.bodies[request_id]
        rows = _rows_of(
            index, {*recorded.samples, *recorded.unknown_samples}, {*recorded.subjects, *recorded.unknown_subjects}
        )
        arrived = index.subjects_with_rows(recorded.unknown_subjects)
        return Resolution(
            request_id,
            rows,
            tuple(sorted(set(rows.hashes()).difference(recorded.samples))),
            tuple(sorted(arrived)),
        )


def _covered(index: RowIndex, samples: Mapping[str, str], subjects: Mapping[str, str]) -> RequestBody:
    """A new request for these keyed hashes: which rows they cover now, and which name no row."""
    named = set(index.of_samples(samples).hashes())
    known = index.subjects_with_rows(subjects)
    rows = named.union(index.of_subjects(known).hashes())
    return RequestBody(
        id=uuid.uuid4().hex,
        samples=tuple(sorted(rows)),
        subjects=tuple(known),
        unknown_samples=tuple(each for each in samples if each not in named),
        unknown_subjects=tuple(sorted(subjects.keys() - known)),
        idempotency=None,
        body="",
        deadline=None,
    )


def _rows_of(index: RowIndex, samples: Iterable[str], subjects: Iterable[str]) -> Rows:
    """The rows of the index with these keyed hashes of samples or subjects."""
    return Rows.joined([index.of_samples(samples), index.of_subjects(subjects)])


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
