"""What the coordinator needs of the owners, and owners that live in its process."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Protocol

from actors.jobs import PromptJob, RowsJob, TuningJob, WrittenFeatures, WrittenPrompt, WrittenRows
from actors.owner import Owner
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

# How often an owner is asked to write its rows before the whole change is given up.
_TRIES = 3
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TuningResult:
    """How a tuning or an embedding ended: it wrote something, failed with a reason, or was cancelled (neither).

    Attributes:
        job: what was to be done.
        written: what was written.
        reason: why it failed.
        is_transient: whether it failed because of the store's medium, which may recover.
    """

    job: TuningJob
    written: WrittenPrompt | WrittenFeatures | None
    reason: str | None = None
    is_transient: bool = False


def is_transient(error: Exception) -> bool:
    """Whether a retry may succeed: the store's medium fails, but nothing that it holds is damaged."""
    permanent = ObjectCorruptError | ObjectMissingError | StoreFormatError | FingerprintError
    return isinstance(error, StoreError) and not isinstance(error, permanent)


def written_rows(
    jobs: Iterable[RowsJob], write: Callable[[Mapping[str, RowsJob]], Mapping[str, WrittenRows | Exception]]
) -> dict[str, WrittenRows]:
    """Have every job done; an owner that fails is asked again, three times in all.

    Segments count only once a commit names them, so writing one twice does no harm.

    Args:
        jobs: what to write.
        write: gets jobs by cluster key, has some of them done, each by another owner, and returns when none of these
            owners is still writing; gives what was written, or the error, by cluster key.

    Returns:
        What was written, by cluster key.

    Raises:
        OwnerFailedError: when an owner has failed three times; names the cluster and the reason.
        LMEraserError: any other error of an owner.
    """
    pending = {job.region.key: job for job in jobs}
    failures: Counter[str] = Counter()
    done: dict[str, WrittenRows] = {}
    while pending:
        for key, outcome in write(pending).items():
            if isinstance(outcome, WrittenRows):
                done[key] = outcome
                del pending[key]
                continue
            failures[key] += 1
            if not isinstance(outcome, OwnerFailedError):
                raise outcome
            if failures[key] == _TRIES:
                raise OwnerFailedError(f"the rows of cluster {key} could not be written: {outcome}") from outcome
            _log.warning("the rows of cluster %s could not be written; asking its owner again: %s", key, outcome)
    return done


class Owners(Protocol):
    """All owners, as the coordinator sees them."""

    @property
    def slots(self) -> int:
        """How many clusters can be tuned at the same time."""

    def prepare(self, rows: Mapping[str, int]) -> None:
        """Take over: start from idle owners for these clusters.

        Args:
            rows: rows by cluster key.
        """

    def start_ahead(self) -> None:
        """While there is nothing else to do, start owners that may be needed soon, and end idle ones."""

    def write_rows(self, jobs: Iterable[RowsJob]) -> dict[str, WrittenRows]:
        """Have every job's owner write its rows; see :func:`written_rows`."""

    def start_tuning(self, job: TuningJob) -> None:
        """Have a cluster tuned or embedded; :meth:`finished` gives the result."""

    def finished(self) -> list[TuningResult]:
        """Tunings and embeddings that have ended since the last call."""

    def stop_tuning(self, unwanted: Callable[[TuningJob], bool]) -> list[TuningJob]:
        """Cancel the unwanted jobs, and name them; after the return none of them writes anything."""

    def retire(self, keys: Collection[str]) -> None:
        """End the owners of removed clusters; after the return none of them writes anything."""

    def of_draft(self, store: Store, manifest: Manifest) -> Owners:
        """Owners of the clusters of a draft in a folder of this store, which may take over from this store's."""


class InProcessOwners:
    """Owners without Ray: each call of :meth:`finished` runs one tuning."""

    def __init__(
        self,
        store: Store,
        manifest: Manifest,
        hash_key: HashKey,
        pipeline: Callable[[], Pipeline],
        live: Store | None = None,
    ) -> None:
        """See :class:`Owner`."""
        self._context = (store, manifest, hash_key)
        self._live = live
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

    def write_rows(self, jobs: Iterable[RowsJob]) -> dict[str, WrittenRows]:
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
            return [TuningResult(job, self._done(job))]
        except TuningCancelledError:
            return [TuningResult(job, None)]
        except LMEraserError as error:
            return [TuningResult(job, None, str(error), is_transient(error))]

    def stop_tuning(self, unwanted: Callable[[TuningJob], bool]) -> list[TuningJob]:
        stopped = [job for job in self._queue if unwanted(job)]
        self._queue = [job for job in self._queue if job not in stopped]
        self._cancelled += stopped
        return stopped

    def retire(self, keys: Collection[str]) -> None:
        pass

    def of_draft(self, store: Store, manifest: Manifest) -> InProcessOwners:
        # Imported here: an owner that erases needs no torch.
        from lmeraser.state.pipeline_loading import load_pipeline

        live, _, hash_key = self._context
        return InProcessOwners(store, manifest, hash_key, cache(lambda: load_pipeline(store, manifest)), live)

    def _done(self, job: TuningJob) -> WrittenPrompt | WrittenFeatures:
        owner = self._owner(job.key)
        return owner.tune(job) if isinstance(job, PromptJob) else owner.embed(job)

    def _outcome(self, job: RowsJob) -> WrittenRows | LMEraserError:
        try:
            return self._owner(job.region.key).write_rows(job)
        except LMEraserError as error:
            return error

    def _owner(self, key: str) -> Owner:
        return Owner(*self._context, key, self._pipeline, self._live)
