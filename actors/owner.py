"""The owner: works alone on one cluster's rows and tunes its prompt.

A plain class; ``actors.remote.owner_actor`` makes it a Ray actor. It reads and writes immutable objects, so repeating a
call does no harm: only what a commit names counts.
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

_MAX_REASON_CHARS = 300
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RowObject:
    """A row object, the part of the state that it holds, and its keyed digest under that part's name."""

    name: str
    part: str
    leaf: str


@dataclass(frozen=True)
class RowsJob:
    """Write a cluster's rows again.

    Attributes:
        region: which rows.
        sources: the row objects to take them from.
        requests: request objects that name the rows to leave out.
        target: name of the object to write.
        position: the coordinator's position in the log.
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
        rows_object, rows_leaf: its row object, and its keyed digest.
        target: name of the object to write.
        position: the coordinator's position in the log.
    """

    key: str
    rows_object: str
    rows_leaf: str
    target: str
    position: Position


@dataclass(frozen=True)
class WrittenObject:
    """An object that was written: the number of its rows, and its keyed digest."""

    rows: int
    leaf: str


@contextmanager
def _failing() -> Iterator[None]:
    """Turn any unexpected error into an OwnerFailedError with its reason, which can cross process boundaries.

    The message may become part of the log, so it has only the error's first line, and that of a failed look-up, which
    may contain an id, is left out.
    """
    try:
        yield
    except LMEraserError:
        raise
    except Exception as error:
        detail = "" if isinstance(error, LookupError) else str(error).strip().partition("\n")[0][:_MAX_REASON_CHARS]
        reason = f"{type(error).__name__}: {detail}" if detail else type(error).__name__
        _log.error("an owner failed: %s\n%s", reason, "".join(traceback.format_tb(error.__traceback__)))
        raise OwnerFailedError(reason) from error


class Owner:
    """Works on the rows of one cluster."""

    def __init__(
        self, store: Store, manifest: Manifest, hash_key: HashKey, key: str, pipeline: Callable[[], Pipeline]
    ) -> None:
        self._store = store
        self._manifest = manifest
        self._hash_key = hash_key
        self._key = key
        # Called at the first tuning, since an erasure must not wait for the import of torch.
        self._pipeline = pipeline
        self._cancelled: set[str] = set()
        # Held while a specialist is written: after a cancellation returns, its tuning writes nothing.
        self._putting = threading.Lock()
        self._progress = (0, 0)

    @_failing()
    def write_rows(self, job: RowsJob) -> WrittenObject:
        """Write the cluster's rows from the sources, without the rows that the requests name.

        Raises:
            ObjectMissingError, ObjectCorruptError: when a source is missing or damaged.
            FencedError: when another coordinator has taken over; what was written is removed then.
            OwnerFailedError: at any unexpected error; this process's memory cannot be trusted then.
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
            ObjectMissingError, ObjectCorruptError: when the rows are missing or are not the cluster's.
            TuningCancelledError: when a newer change made the tuning pointless.
            FencedError: when another coordinator has taken over; what was written is removed then.
            OwnerFailedError: at any unexpected error; this process's memory cannot be trusted then.
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
        """Stop the tuning that would write ``target``; after the return it writes nothing."""
        with self._putting:
            self._cancelled.add(target)

    def progress(self) -> tuple[int, int]:
        """Steps done and total steps of the current or latest tuning."""
        return self._progress

    def _put(self, name: str, data: bytes, position: Position) -> None:
        """Write an object; remove it if another coordinator, which may have erased its rows, has taken over."""
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
