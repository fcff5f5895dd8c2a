"""The owner: works alone on one cluster's rows and tunes its prompt.

A plain class; ``actors.remote.owner_processes`` makes it a Ray actor. It reads and writes immutable objects, so a call
that is made twice does no harm: what counts is only what a commit names.
"""

from __future__ import annotations

import json
import logging
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from actors.fail_points import FailPoint, fail_point
from lmeraser.errors import FencedError, LMEraserError, OwnerFailedError, TuningCancelledError
from lmeraser.hashing import HashKey
from lmeraser.ids import comparable
from lmeraser.learning.region import Region
from lmeraser.state.digests import state_leaf
from lmeraser.state.layout import rows_part, specialist_part
from lmeraser.state.log import Position, check_term
from lmeraser.state.manifest import Manifest
from lmeraser.state.rows import RowTable
from lmeraser.state.stored_objects import read_rows
from lmeraser.store import Store, unfenced

if TYPE_CHECKING:
    from lmeraser.state.pipeline import Pipeline

_LONGEST_REASON = 300
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RowObject:
    """A row object, and its keyed digest under the name of the part of the state that it is."""

    name: str
    part: str
    leaf: str


@dataclass(frozen=True)
class RowsJob:
    """Write a cluster's rows anew.

    Attributes:
        region: which rows.
        sources: where to take them from.
        requests: request objects that name the rows to leave out.
        target: name of the object to write.
        position: where in the log the coordinator stood that asks for it.
    """

    region: Region
    sources: tuple[RowObject, ...]
    requests: tuple[str, ...]
    target: str
    position: Position


@dataclass(frozen=True)
class TuningJob:
    """Tune a cluster's prompt.

    Attributes:
        key: the cluster.
        rows_object, rows_leaf: its rows, and their keyed digest.
        target: name of the object to write.
        position: where in the log the coordinator stood that asks for it.
    """

    key: str
    rows_object: str
    rows_leaf: str
    target: str
    position: Position


@dataclass(frozen=True)
class WrittenObject:
    """An object that was written: how many rows it is about, and its keyed digest."""

    rows: int
    leaf: str


@contextmanager
def _failing() -> Iterator[None]:
    """Make an error of its own of whatever else is raised: the job's failure, with its reason, in any process.

    The message may become part of the log, so it is the error's first line; a look-up that failed may name an id.
    """
    try:
        yield
    except LMEraserError:
        raise
    except Exception as error:
        said = "" if isinstance(error, LookupError) else str(error).strip().partition("\n")[0][:_LONGEST_REASON]
        reason = f"{type(error).__name__}: {said}" if said else type(error).__name__
        _log.error("an owner failed: %s\n%s", reason, "".join(traceback.format_tb(error.__traceback__)))
        raise OwnerFailedError(reason) from error


class Owner:
    """Works on one cluster."""

    def __init__(
        self, store: Store, manifest: Manifest, hash_key: HashKey, key: str, pipeline: Callable[[], Pipeline]
    ) -> None:
        self._store = store
        self._manifest = manifest
        self._hash_key = hash_key
        self._key = key
        # Called at the first tuning: an erasure must not wait for the import of torch.
        self._pipeline = pipeline
        self._cancelled: set[str] = set()
        # Held while a specialist is put: once a tuning is cancelled, it writes nothing any more.
        self._putting = threading.Lock()
        self._progress = (0, 0)

    @_failing()
    def write_rows(self, job: RowsJob) -> WrittenObject:
        """Write the cluster's rows from the sources, without the rows that the requests name.

        Raises:
            ObjectMissingError, ObjectCorruptError: when a source cannot be read or is damaged.
            FencedError: when another coordinator has taken over; what was written is gone then.
            OwnerFailedError: at any error that is not raised on purpose; what this process holds is not to be trusted.
        """
        requests = [json.loads(self._store.get(name)) for name in job.requests]
        parts = []
        for source in job.sources:
            table = self._read(source)
            keep_N = job.region.holds(table.anchors_N, table.bits(self._manifest.config.seed))
            keep_N &= ~_named(table, requests)
            parts.append(table.where(keep_N))
        fail_point(FailPoint.ROWS_READ)
        rows = RowTable.concatenate(parts, head_dim=parts[0].features_NH.shape[1] if parts else 0)
        self._put(job.target, rows.to_parquet(), job.position)
        fail_point(FailPoint.ROWS_WRITTEN)
        return WrittenObject(len(rows), state_leaf(self._hash_key, rows_part(self._key), rows.digest()))

    @_failing()
    def tune(self, job: TuningJob) -> WrittenObject:
        """Tune the cluster's prompt on its rows, and write the specialist.

        Raises:
            ObjectMissingError, ObjectCorruptError: when the rows cannot be read or are not the cluster's.
            TuningCancelledError: when a newer change made the tuning pointless.
            FencedError: when another coordinator has taken over; what was written is gone then.
            OwnerFailedError: at any error that is not raised on purpose; what this process holds is not to be trusted.
        """
        fail_point(FailPoint.TUNING_STARTED)
        rows = self._read(RowObject(job.rows_object, rows_part(self._key), job.rows_leaf))
        specialist = self._pipeline().specialist(rows, self._report, lambda: job.target in self._cancelled)
        with self._putting:
            if job.target in self._cancelled:
                raise TuningCancelledError("the tuning was cancelled before its specialist was written")
            self._put(job.target, specialist.to_safetensors(), job.position)
        fail_point(FailPoint.SPECIALIST_WRITTEN)
        return WrittenObject(len(rows), state_leaf(self._hash_key, specialist_part(self._key), specialist.digest()))

    def cancel(self, target: str) -> None:
        """Stop the tuning that would write ``target``; when this returns, it writes nothing any more."""
        with self._putting:
            self._cancelled.add(target)

    def progress(self) -> tuple[int, int]:
        """Steps done and steps in all of the tuning that runs or ran last."""
        return self._progress

    def _put(self, name: str, data: bytes, position: Position) -> None:
        """Write an object, unless another coordinator has taken over: it may have erased rows that are in it."""
        self._store.put(name, data)
        try:
            check_term(self._store, position)
        except FencedError:
            self._store.purge(name, unfenced)
            raise

    def _read(self, source: RowObject) -> RowTable:
        return read_rows(self._store, self._hash_key, source.name, source.part, source.leaf)

    def _report(self, done: int, total: int) -> None:
        self._progress = (done, total)


def _named(table: RowTable, requests: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Which rows the requests name, by id or by subject."""
    samples, subjects = (
        {comparable(each) for request in requests for each in request[kind]} for kind in ("sample_ids", "subject_ids")
    )
    return np.array(
        [
            comparable(sample_id) in samples or (subject_id is not None and comparable(subject_id) in subjects)
            for sample_id, subject_id in zip(table.sample_ids, table.subject_ids, strict=True)
        ],
        bool,
    )
