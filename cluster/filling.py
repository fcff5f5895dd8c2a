"""The job that fills a draft with the rows of the live generation, until the store has switched to it (design 7)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayActorError

from actors.coordinator_status import RebuildStatus
from actors.refill import LiveSegment, draft_samples, live_batches, put_missing
from actors.remote.placement import OTHERS_GPU_SHARE, StoreRef
from lmeraser.errors import LMEraserError, NotReadyError, RequestError
from lmeraser.progress import Progress
from lmeraser.state.draft_rows import DraftRows
from lmeraser.state.keys import load_hash_key
from lmeraser.state.manifest import draft_of, load_manifest
from lmeraser.state.pipeline import Pipeline
from lmeraser.state.pipeline_loading import load_pipeline
from lmeraser.store import open_store

# Less than one CPU, because on a small machine owners and a replica may occupy the rest as long as they run.
_WRITER_CPUS = 0.5
# Batches that are written and wait to be added: more would only take space.
_WAITING = 4
POLL_S = 0.2
_RENEW_S = 0.5
# A draft that keeps failing, or a coordinator that stays away, for so long needs a person.
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Fill:
    """Fills the draft round by round.

    Attributes:
        coordinator: the coordinator's actor handle.
        site: the store and its keys.
        generation: of the draft.
        renamed: live labels that have another name in it.
        report: called with what is being done, how much of it is done, and how much there is.
        numerics: labels of the nodes that compute under the draft's fingerprint; empty for any.
        on_gpu: whether these compute on a GPU.
    """

    coordinator: Any
    site: StoreRef
    generation: str
    renamed: Mapping[str, str]
    report: Progress
    numerics: Mapping[str, str]
    on_gpu: bool

    def run(self) -> None:
        """Return when the rebuild has ended.

        Raises:
            LMEraserError: when clusters cannot be tuned, or the draft keeps failing.
        """
        failing_since: float | None = None
        while (status := self._status()) is not None:
            show(status, self.report)
            draft = status.draft
            if draft is not None and draft.failed:
                key, reason = next(iter(draft.failed.items()))
                raise LMEraserError(f"{len(draft.failed)} cluster(s) could not be tuned; {key}: {reason}")
            failing_since = None if not status.problem else failing_since or time.monotonic()
            if failing_since is not None and time.monotonic() - failing_since > _PATIENCE_S:
                raise LMEraserError(status.problem)
            if draft is not None and draft.rows < status.rows:
                self._round()
            time.sleep(POLL_S)

    def _round(self) -> None:
        """Have the draft given the rows that it lacks now; what is erased or restarted meanwhile is for the next."""
        store, hash_key = open_store(self.site.store_uri), load_hash_key(Path(self.site.keys_folder))
        have_M = ray.put(draft_samples(store, hash_key, self.generation))
        cores = max(1, int(ray.cluster_resources().get("GPU" if self.on_gpu else "CPU", 1)))
        batches = _Batches(self.coordinator)
        try:
            for batch in live_batches(store):
                batches.write(self._writer(), (self.site, self.generation, self.renamed, have_M), batch)
                while batches.writing and (len(batches.writing) >= cores or len(batches.adding) >= _WAITING):
                    batches.advance()
                if (status := self._status()) is None:
                    return
                show(status, self.report)
            while batches.writing or batches.adding:
                batches.advance()
        except (NotReadyError, RayActorError):
            # The draft is being opened again, or the coordinator has ended and Ray starts it again.
            return
        finally:
            batches.stop()

    def _status(self) -> RebuildStatus | None:
        begun_s = time.monotonic()
        while True:
            try:
                status: RebuildStatus | None = ray.get(self.coordinator.rebuild_status.remote())
                return status
            except RayActorError:
                if time.monotonic() - begun_s > _PATIENCE_S:
                    raise
                time.sleep(POLL_S)

    def _writer(self) -> Any:
        return _write_draft_rows.options(
            num_cpus=_WRITER_CPUS,
            num_gpus=OTHERS_GPU_SHARE if self.on_gpu else 0,
            label_selector=dict(self.numerics) or None,
        )


@dataclass
class _Batches:
    """Batches of rows that workers write, each below a prefix of its own, and that are then added to the draft.

    Attributes:
        coordinator: the coordinator's actor handle.
        writing: the prefixes of the batches that are being written, by their tasks.
        adding: the calls that add those that are written.
    """

    coordinator: Any
    writing: dict[Any, str] = field(default_factory=dict)
    adding: list[Any] = field(default_factory=list)

    def write(self, writer: Any, arguments: tuple[Any, ...], batch: Sequence[LiveSegment]) -> None:
        """Have a worker write a batch. Raises NotReadyError while the draft is not open."""
        prefix = ray.get(self.coordinator.begin_fill.remote())
        self.writing[writer.remote(*arguments, prefix, batch)] = prefix

    def advance(self) -> None:
        """Wait until a batch is written or added, at most half a second.

        Raises:
            NotReadyError: while the draft is not open.
            LMEraserError: what a worker has raised.
        """
        ready, _ = ray.wait([*self.writing, *self.adding], timeout=_RENEW_S)
        for call in ready:
            if call in self.writing:
                self._written(call)
            else:
                self.adding.remove(call)
                # A row of the batch was erased meanwhile: the next round has the others.
                with suppress(RequestError):
                    ray.get(call)
        for task, prefix in list(self.writing.items()):
            try:
                ray.get(self.coordinator.renew_fill.remote(prefix))
            except RequestError:
                del self.writing[task]
                ray.cancel(task, force=True)

    def stop(self) -> None:
        """End what is still being written."""
        for task, prefix in self.writing.items():
            ray.cancel(task, force=True)
            with suppress(NotReadyError, RayActorError):
                ray.get(self.coordinator.abandon_fill.remote(prefix))
        self.writing.clear()

    def _written(self, task: Any) -> None:
        rows = ray.get(task)
        prefix = self.writing.pop(task)
        if rows:
            self.adding.append(self.coordinator.fill.remote(prefix))
        else:
            ray.get(self.coordinator.abandon_fill.remote(prefix))


def show(status: RebuildStatus, report: Progress) -> None:
    """Report how far a rebuild is."""
    if status.draft is None:
        return
    report("rows of the draft", min(status.draft.rows, status.rows), status.rows)
    if status.draft.rows == status.rows:
        awaiting = len(status.draft.awaiting)
        report("clusters of the draft", status.draft.clusters - awaiting, status.draft.clusters)


# The worker keeps the pipeline between its tasks; Ray ends it when it is idle.
@ray.remote
def _write_draft_rows(
    site: StoreRef,
    generation: str,
    renamed: Mapping[str, str],
    have_M: np.ndarray,
    prefix: str,
    segments: Sequence[LiveSegment],
) -> int:
    """Write the rows of some live segments that the draft lacks; how many there were."""
    store = open_store(site.store_uri)
    draft = draft_of(store, generation)
    live, manifest = load_manifest(store), load_manifest(draft)
    rows = DraftRows(live, manifest, renamed, lambda: _pipeline(draft.uri))
    hash_key = load_hash_key(Path(site.keys_folder))
    return put_missing(store, hash_key, generation, rows, have_M, prefix, segments)


@cache
def _pipeline(uri: str) -> Pipeline:
    store = open_store(uri)
    return load_pipeline(store, load_manifest(store))
