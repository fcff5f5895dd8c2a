"""What the coordinator asks of the owners, and owners that live in the same process."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from actors.owner import Owner, RowsJob, TuningJob, WrittenObject
from lmeraser.errors import (
    FingerprintError,
    LMEraserError,
    ObjectCorruptError,
    ObjectMissingError,
    OwnerFailedError,
    StoreError,
    StoreFormatError,
    TuningCancelledError,
)
from lmeraser.hashing import HashKey
from lmeraser.state.manifest import Manifest
from lmeraser.store import Store

if TYPE_CHECKING:
    from lmeraser.state.pipeline import Pipeline

# How often an owner is asked to write its rows before the whole change is put off.
_TRIES = 3
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TuningResult:
    """How a tuning ended: with an object written, or with a reason why not, or cancelled (neither).

    Attributes:
        job: what was asked for.
        written: the specialist's object.
        reason: why it failed.
        may_pass: whether the reason lies in the store's medium, which may be well again later.
    """

    job: TuningJob
    written: WrittenObject | None
    reason: str | None = None
    is_transient: bool = False


def is_transient(error: Exception) -> bool:
    """Whether the same may succeed later: the store's medium fails, and nothing that it holds is damaged."""
    lasting = ObjectCorruptError | ObjectMissingError | StoreFormatError | FingerprintError
    return isinstance(error, StoreError) and not isinstance(error, lasting)


def written_rows(
    jobs: Iterable[RowsJob], write: Callable[[Mapping[str, RowsJob]], Mapping[str, WrittenObject | Exception]]
) -> dict[str, WrittenObject]:
    """Have every job done; an owner that failed at it is asked again.

    Row objects count only once a commit names them, so writing one twice does no harm.

    Args:
        jobs: what to write.
        write: has some of the jobs done that it is given by cluster key, each by another owner, and returns when none
            of these owners writes any more; by cluster key, what was written or why not.

    Raises:
        OwnerFailedError: when an owner has failed several times; names the cluster and the reason.
        LMEraserError: what an owner raised on purpose.
    """
    pending = {job.region.key: job for job in jobs}
    failures: Counter[str] = Counter()
    done: dict[str, WrittenObject] = {}
    while pending:
        for key, outcome in write(pending).items():
            if isinstance(outcome, WrittenObject):
                done[key] = outcome
                del pending[key]
                continue
            failures[key] += 1
            if not isinstance(outcome, OwnerFailedError):
                raise outcome
            if failures[key] == _TRIES:
                raise OwnerFailedError(f"the rows of cluster {key} could not be written: {outcome}") from outcome
            _log.warning("the rows of cluster %s could not be written, and its owner is asked again: %s", key, outcome)
    return done


class Owners(Protocol):
    """All owners, as the coordinator sees them."""

    @property
    def slots(self) -> int:
        """How many clusters can be tuned at a time."""

    def prepare(self, rows: Mapping[str, int]) -> None:
        """Have owners for these clusters, and none of them at work: a new coordinator takes over.

        Args:
            rows: rows by cluster key.
        """

    def start_ahead(self) -> None:
        """While there is nothing else to do: have owners ready that may be asked for, and end idle ones."""

    def write_rows(self, jobs: Iterable[RowsJob]) -> dict[str, WrittenObject]:
        """Have every job's owner write its rows; by cluster key. Raises what :func:`written_rows` raises."""

    def start_tuning(self, job: TuningJob) -> None:
        """Have a cluster tuned; the result comes from :meth:`finished`."""

    def finished(self) -> list[TuningResult]:
        """Tunings that have ended since the last call."""

    def stop_tuning(self, keys: Collection[str]) -> None:
        """Cancel these clusters' tunings; none of them writes anything after the return."""

    def retire(self, keys: Collection[str]) -> None:
        """End the owners of clusters that are no more; none of them writes anything after the return."""


class InProcessOwners:
    """Owners without Ray: a tuning runs when :meth:`finished` is called, one at each call."""

    def __init__(self, store: Store, manifest: Manifest, hash_key: HashKey, pipeline: Callable[[], Pipeline]) -> None:
        self._context = (store, manifest, hash_key)
        self._pipeline = pipeline
        self._queue: list[TuningJob] = []
        self._cancelled: list[TuningJob] = []

    @property
    def slots(self) -> int:
        return 1

    def prepare(self, rows: Mapping[str, int]) -> None:
        pass

    def start_ahead(self) -> None:
        pass

    def write_rows(self, jobs: Iterable[RowsJob]) -> dict[str, WrittenObject]:
        return written_rows(jobs, lambda pending: {key: self._outcome(job) for key, job in pending.items()})

    def start_tuning(self, job: TuningJob) -> None:
        self._queue.append(job)

    def finished(self) -> list[TuningResult]:
        if self._cancelled:
            return [TuningResult(self._cancelled.pop(0), None)]
        if not self._queue:
            return []
        job = self._queue.pop(0)
        try:
            return [TuningResult(job, self._owner(job.key).tune(job))]
        except TuningCancelledError:
            return [TuningResult(job, None)]
        except LMEraserError as error:
            return [TuningResult(job, None, str(error), is_transient(error))]

    def stop_tuning(self, keys: Collection[str]) -> None:
        self._cancelled += [job for job in self._queue if job.key in keys]
        self._queue = [job for job in self._queue if job.key not in keys]

    def retire(self, keys: Collection[str]) -> None:
        pass

    def _outcome(self, job: RowsJob) -> WrittenObject | LMEraserError:
        try:
            return self._owner(job.region.key).write_rows(job)
        except LMEraserError as error:
            return error

    def _owner(self, key: str) -> Owner:
        return Owner(*self._context, key, self._pipeline)
