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
from actors.preview_tokens import Previewed, PreviewTokens
from actors.request_groups import RequestGroups
from actors.row_index import RowIndex, Rows
from lmeraser.clock import timestamp
from lmeraser.deletion import MAX_IDS, Deletion, DeletionRequest
from lmeraser.errors import DecidedError, RequestError, StalePreviewError
from lmeraser.hashing import HashKey, sample_hash, subject_hash
from lmeraser.ids import fault_of_id, is_text
from lmeraser.state.record_bodies import RequestBody


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


@dataclass(frozen=True)
class NamedIds:
    """The ids of a request.

    Attributes:
        samples, subjects: ids by their keyed hashes; empty where they are not known in clear.
        asked: keyed hash of all of them.
        known: those of the keyed hashes that had rows when they were requested. These may be gone by now.
    """

    samples: Mapping[str, str]
    subjects: Mapping[str, str]
    asked: str
    known: frozenset[str] = frozenset()


class Requests:
    """Turns requests into records of keyed hashes."""

    def __init__(
        self, hash_key: HashKey, journal: Journal, tokens: PreviewTokens, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._hash_key = hash_key
        self._journal = journal
        self._tokens = tokens
        self._groups = RequestGroups(journal, clock)

    def accept(self, index: RowIndex, request: DeletionRequest) -> tuple[Deletion, bool]:
        """Accept a deletion; also says whether it is new.

        Raises:
            RequestError: when no id is given, or more than 100,000 are, or one is empty, too long or not text, or the
                idempotency key is not text, or the deadline is not a time with an offset, or the preview is not one of
                these ids.
            StalePreviewError: when something was committed since the preview, or will be before the rows are erased.
            RateLimitError: when too many ids came that the system does not hold.
            IdempotencyConflictError: when the idempotency key came before with other ids.
            StoreError: when the request cannot be written; it is not accepted then.
        """
        named_ids = self.named(request)
        samples, subjects = named_ids.samples, named_ids.subjects
        idempotency, deadline = request.idempotency_key, _utc(request.deadline)
        record = replace(
            covered(index, samples, subjects),
            idempotency=None if idempotency is None else self._hash_key.of("idempotency", idempotency),
            body=self._hash_key.of("body", *samples.values(), "", *subjects.values(), "", deadline or ""),
            deadline=deadline,
            by=request.by,
            awaits_approval=self._journal.history.approval,
        )
        if request.preview is not None:
            previewed = self.previewed(request.preview, named_ids.asked)
            record = replace(record, previewed=previewed.root, preview_of=previewed.commit)
            # What was accepted before gets the same answer.
            if record.idempotency is None or record.idempotency not in self._journal.history.by_idempotency:
                self.check_fresh(previewed.commit)
        accepted = self._groups.record(record)
        named = [(accepted.body.unknown_samples, samples), (accepted.body.unknown_subjects, subjects)]
        unknown = sorted({ids[each] for hashes, ids in named for each in hashes if each in ids})
        return replace(accepted.deletion, unknown_ids=tuple(unknown)), accepted.new

    def accept_again(self, index: RowIndex, samples: Iterable[str]) -> str:
        """Accept a deletion of the rows whose samples have these keyed hashes, at most 100,000; gives its id."""
        return self._groups.record(covered(index, dict.fromkeys(samples, ""), {})).deletion.id

    def accept_hashes(self, index: RowIndex, samples: Iterable[str], subjects: Iterable[str]) -> str:
        """Accept a deletion of the samples and subjects with these keyed hashes, however many; gives its id."""
        record = covered(index, dict.fromkeys(samples, ""), dict.fromkeys(subjects, ""))
        self._journal.append_deletions("request", [record])
        return record.id

    def named(self, request: DeletionRequest) -> NamedIds:
        """The ids of a request by their keyed hashes.

        Raises:
            RequestError: when one is not allowed, or there are none, or too many.
        """
        _check(request)
        samples = {sample_hash(self._hash_key, each): each for each in sorted(set(request.sample_ids))}
        subjects = {subject_hash(self._hash_key, each): each for each in sorted(set(request.subject_ids))}
        return NamedIds(samples, subjects, self._hash_key.of("asked", *samples, "", *subjects))

    def waiting(self, deletion_id: str) -> NamedIds:
        """The ids of a deletion that waits for an approval, none of them in clear.

        Raises:
            UnknownDeletionError: when there is no such deletion.
            DecidedError: when it does not wait.
        """
        history = self._journal.history
        if (status := history.deletion(deletion_id).status) != "requested":
            raise DecidedError(f"deletion {deletion_id} is {status}: it does not wait for an approval")
        body = history.bodies[deletion_id]
        known = (*body.samples, *body.subjects)
        samples = dict.fromkeys((*body.samples, *body.unknown_samples), "")
        subjects = dict.fromkeys((*body.subjects, *body.unknown_subjects), "")
        return NamedIds(samples, subjects, self._hash_key.of("deletion", deletion_id), frozenset(known))

    def previewed(self, token: str, asked: str) -> Previewed:
        """See PreviewTokens.read."""
        return self._tokens.read(token, asked)

    def check_fresh(self, preview_of: int) -> None:
        """Check that what was previewed on this commit can be done next.

        Raises:
            StalePreviewError: when it is not the newest commit, or another deletion is to be erased as previewed.
        """
        history = self._journal.history
        newest = history.commit.number if history.commit is not None else None
        if newest != preview_of:
            raise StalePreviewError(
                f"the preview is of commit {preview_of}, and the newest is {newest}: nothing was begun; preview again"
            )
        for deletion in history.deletions.values():
            if deletion.status == "accepted" and history.is_bound(deletion.id) and deletion.id not in history.committed:
                raise StalePreviewError(
                    f"deletion {deletion.id} was previewed too and is erased first: nothing was begun; preview again"
                )

    def resolve(self, request_id: str, index: RowIndex) -> Resolution:
        """The rows of the index that a request names, by sample or by subject.

        They are looked up at the erasure and not at the acceptance, so that rows which an ingest has added in between
        are among them (decision 42).
        """
        recorded = self._journal.history.bodies[request_id]
        rows = rows_of(
            index, {*recorded.samples, *recorded.unknown_samples}, {*recorded.subjects, *recorded.unknown_subjects}
        )
        arrived = index.subjects_with_rows(recorded.unknown_subjects)
        return Resolution(
            request_id,
            rows,
            tuple(sorted(set(rows.hashes()).difference(recorded.samples))),
            tuple(sorted(arrived)),
        )


def covered(index: RowIndex, samples: Mapping[str, str], subjects: Mapping[str, str]) -> RequestBody:
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


def rows_of(index: RowIndex, samples: Iterable[str], subjects: Iterable[str]) -> Rows:
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
