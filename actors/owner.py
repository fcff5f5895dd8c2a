"""The owner: works alone on one cluster's rows and tunes its prompt.

A plain class; ``actors.remote.owner_actor`` makes it a Ray actor. It reads and writes immutable objects, so repeating a
call does no harm: only what a commit names counts.

Legend: N rows, H head features.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from actors.fail_points import FailPoint, fail_point
from actors.jobs import EmbeddingJob, PromptJob, RowsJob, TuningJob, WrittenFeatures, WrittenPrompt, WrittenRows
from actors.origin import KnownFeatures, known_features, known_prompt
from actors.rewriting import Rewriting
from actors.segment_access import SegmentAccess
from lmeraser.errors import LMEraserError, OwnerFailedError, TuningCancelledError
from lmeraser.hashing import HashKey
from lmeraser.state.cluster_entry import Segment, all_embedded
from lmeraser.state.digests import state_leaf
from lmeraser.state.layout import new_removed_object, prompt_part, removed_part
from lmeraser.state.manifest import Manifest
from lmeraser.state.rows import RowTable
from lmeraser.state.segment import SegmentIndex
from lmeraser.state.specialist import Prompt
from lmeraser.state.stored_objects import read_added, read_index, read_prompt, read_segment
from lmeraser.store import Store

if TYPE_CHECKING:
    from lmeraser.state.pipeline import Pipeline

_MAX_REASON_CHARS = 300
# Rows that are embedded between two looks for a cancellation.
_EMBEDDED_ROWS = 64
_log = logging.getLogger(__name__)


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
        self,
        store: Store,
        manifest: Manifest,
        hash_key: HashKey,
        key: str,
        pipeline: Callable[[], Pipeline],
        live: Store | None = None,
    ) -> None:
        """An owner without anything in memory.

        Args:
            store, manifest, hash_key: where the cluster is, and what it was made with.
            key: the cluster.
            pipeline: called at the first tuning, since an erasure must not wait for the import of torch.
            live: the store whose live generation has the clusters that jobs name as their origin; only in a draft.
        """
        self._store = store
        self._live = live
        self._config = manifest.config
        self._folder = manifest.folder
        self._hash_key = hash_key
        self._key = key
        self._access = SegmentAccess(store, manifest, hash_key, key)
        self._pipeline = pipeline
        self._cancelled: set[str] = set()
        # Held while an object of a tuning is written: after a cancellation returns, its tuning writes nothing.
        self._putting = threading.Lock()
        self._progress = (0, 0)

    @_failing()
    def write_rows(self, job: RowsJob) -> WrittenRows:
        """Write the segments that change, without the rows that are removed, and what these rows leave behind.

        Raises:
            ObjectMissingError, ObjectCorruptError: when a source is missing or damaged.
            FencedError: when another coordinator has taken over; what was written is removed then.
            OwnerFailedError: at any unexpected error; this process's memory cannot be trusted then.
        """
        hashes_M32 = np.frombuffer(job.removed, np.uint8).reshape(-1, 32)
        rewriting = Rewriting(self._access, self._config, self._hash_key, job)
        rewriting.read(hashes_M32, self._arriving(job, hashes_M32))
        fail_point(FailPoint.ROWS_READ)
        entry = rewriting.write()
        fail_point(FailPoint.ROWS_WRITTEN)
        removed = rewriting.removed(entry)
        if removed is None:
            return WrittenRows(entry)
        name = new_removed_object(self._folder, self._key)
        self._access.put(name, removed.to_safetensors(), job.position)
        fail_point(FailPoint.REMOVED_WRITTEN)
        return WrittenRows(entry, name, state_leaf(self._hash_key, removed_part(self._key), removed.digest()))

    @_failing()
    def tune(self, job: PromptJob) -> WrittenPrompt:
        """Tune the cluster's prompt on its coreset, and write it.

        Raises:
            ObjectMissingError, ObjectCorruptError: when the rows are missing or are not the cluster's.
            TuningCancelledError: when a newer change made the tuning pointless.
            FencedError: when another coordinator has taken over; what was written is removed then.
            OwnerFailedError: at any unexpected error; this process's memory cannot be trusted then.
        """
        fail_point(FailPoint.TUNING_STARTED)
        prompt = Prompt(self._prompt(job))
        with self._putting:
            self._check_wanted(job)
            self._access.put(job.target, prompt.to_safetensors(), job.position)
        fail_point(FailPoint.PROMPT_WRITTEN)
        return WrittenPrompt(state_leaf(self._hash_key, prompt_part(self._key), prompt.digest()))

    @_failing()
    def embed(self, job: EmbeddingJob) -> WrittenFeatures:
        """Compute the features of the segments' rows under the cluster's prompt, and write them.

        Raises: as :meth:`tune`.
        """
        prompt = read_prompt(self._store, self._hash_key, job.entry).values
        embedded = {}
        known = self._known(job)
        total = sum(segment.rows for segment in job.segments)
        for segment, target in zip(job.segments, job.targets, strict=True):
            features_NH = self._embedded(job, segment, prompt, known, total)
            with self._putting:
                self._check_wanted(job)
                embedded[segment] = self._access.write_features(segment, features_NH, target, job.position)
        fail_point(FailPoint.FEATURES_WRITTEN)
        segments = [embedded.get(segment, segment) for segment in job.entry.segments]
        leaves = tuple(str(segment.prompted_leaf) for segment in embedded.values())
        return WrittenFeatures(leaves, self._access.prompted_leaf(segments) if all_embedded(segments) else None)

    def cancel(self, target: str) -> None:
        """Stop the tuning or embedding whose first object is ``target``; after the return it writes nothing."""
        with self._putting:
            self._cancelled.add(target)

    def progress(self) -> tuple[int, int]:
        """Steps done and total steps of the current or latest tuning, or rows of an embedding."""
        return self._progress

    def _arriving(self, job: RowsJob, hashes_M32: np.ndarray) -> Iterator[tuple[RowTable, SegmentIndex]]:
        """Rows of the region that other clusters hold or that an ingest adds, without those that are removed."""
        for entry in job.sources:
            for segment in entry.segments:
                index = read_index(self._store, self._hash_key, entry.key, segment)
                moves_N = job.region.holds(index.anchors_N, index.bits_N) & ~index.among(hashes_M32)
                if moves_N.any():
                    table = read_segment(self._store, self._hash_key, entry.key, segment)
                    yield table.where(moves_N), index.at(moves_N)
        for row_object in job.added:
            table = read_added(self._store, self._hash_key, row_object.name, row_object.leaf)
            moves_N = job.region.holds(table.anchors_N, table.bits(self._config.seed))
            table = table.where(moves_N)
            yield table, self._access.index_of(table)

    def _coreset(self, job: PromptJob) -> RowTable:
        """The rows of the cluster's coreset; only segments that hold one are read."""
        segments = job.entry.segments
        indexes = self._access.indexes(segments)
        chosen = SegmentIndex.joined(indexes).coreset(self._config.tuning.coreset_rows)
        ends = np.cumsum([len(index) for index in indexes])
        tables = []
        for segment, end in zip(segments, ends, strict=True):
            here = chosen[(chosen >= end - segment.rows) & (chosen < end)] - (end - segment.rows)
            if len(here):
                tables.append(self._access.table(segment).at(here))
        return RowTable.concatenate(tables, 0)

    def _prompt(self, job: PromptJob) -> np.ndarray:
        """The prompt of the cluster's coreset: that of its origin, or tuned."""
        if job.origin is not None and self._live is not None:
            prompt = known_prompt(self._live, self._hash_key, job.origin)
            if prompt is not None:
                return prompt
        return self._pipeline().tuned_prompt(self._coreset(job), self._report, lambda: job.target in self._cancelled)

    def _known(self, job: EmbeddingJob) -> KnownFeatures | None:
        if job.origin is None or self._live is None:
            return None
        return known_features(self._live, self._hash_key, job.origin)

    def _embedded(
        self, job: EmbeddingJob, segment: Segment, prompt: np.ndarray, known: KnownFeatures | None, total: int
    ) -> np.ndarray:
        """Features of a segment's rows under the prompt, int16 [N, H]; those that are known are not computed."""
        if known is None:
            return self._computed(job, segment, np.ones(segment.rows, bool), prompt, total)
        known_N, features_KH = known.of(self._access.index(segment).contents_N32)
        features_NH = np.empty((segment.rows, features_KH.shape[1]), np.int16)
        features_NH[known_N] = features_KH
        if not known_N.all():
            features_NH[~known_N] = self._computed(job, segment, ~known_N, prompt, total)
        return features_NH

    def _computed(
        self, job: EmbeddingJob, segment: Segment, chosen_N: np.ndarray, prompt: np.ndarray, total: int
    ) -> np.ndarray:
        pipeline, images = self._pipeline(), self._access.table(segment).where(chosen_N).images
        done = sum(each.rows for each in job.segments[: job.segments.index(segment)])
        parts = []
        for start in range(0, len(images), _EMBEDDED_ROWS):
            self._check_wanted(job)
            parts.append(pipeline.embedded(images[start : start + _EMBEDDED_ROWS], prompt))
            self._report(done + min(start + _EMBEDDED_ROWS, len(images)), total)
        return np.concatenate(parts)

    def _check_wanted(self, job: TuningJob) -> None:
        if job.targets[0] in self._cancelled:
            raise TuningCancelledError("it was cancelled before it was written")

    def _report(self, done: int, total: int) -> None:
        self._progress = (done, total)
