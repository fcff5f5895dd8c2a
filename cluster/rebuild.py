"""Rebuilding a live store under another configuration or other numerics: the job that fills its draft (design 7)."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import ray

from actors.coordinator_status import RebuildStatus
from actors.refill import LiveSegment, draft_samples, live_batches, live_labels, put_missing
from actors.remote.placement import OTHERS_GPU_SHARE, StoreRef, numerics_selector
from cluster.build import fit
from lmeraser.config import Config, StateConfig
from lmeraser.errors import ConfigError, LMEraserError, NotReadyError, RequestError
from lmeraser.progress import Progress
from lmeraser.state.draft_rows import DraftRows, check_labels
from lmeraser.state.fingerprint import fingerprint_here
from lmeraser.state.keys import load_hash_key
from lmeraser.state.layout import MANIFEST, RENAMED
from lmeraser.state.manifest import Manifest, draft_of, load_manifest
from lmeraser.state.pipeline import Pipeline
from lmeraser.state.pipeline_loading import load_pipeline
from lmeraser.state.provenance import same_public_artifacts
from lmeraser.state.public_artifacts import create_draft, load_public
from lmeraser.store import Store, open_store

# Less than one CPU, because on a small machine owners and a replica may occupy the rest as long as they run.
_WRITER_CPUS = 0.5
_POLL_S = 0.2
_RENEW_S = 0.5
# A draft that keeps failing for so long needs a person.
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class RebuildSummary:
    """The result of a rebuild.

    Attributes:
        generation: what was made.
        resumed: whether an earlier command had begun it.
        fitted: whether the public artifacts were computed again.
        passed: what the rows' images passed through again: "backbone", "routing blocks" or "nothing".
        rows: how many rows the store has.
        state_root: of the new generation.
    """

    generation: str
    resumed: bool
    fitted: bool
    passed: str
    rows: int
    state_root: str


def rebuild(
    coordinator: Any,
    site: StoreRef,
    config: Config,
    renamed: Mapping[str, str],
    report: Progress,
    *,
    skip_bad: bool = False,
) -> RebuildSummary:
    """Give a store the state of another configuration, or of the same one under the numerics of these nodes.

    A rebuild that was begun with the same configuration is gone on with.

    Args:
        coordinator: the coordinator's actor handle.
        site: the store and its keys.
        config: the new configuration.
        renamed: labels of the store that have another name in it.
        report: called with what is being done, how much of it is done, and how much there is.
        skip_bad: leave undecodable public images out instead of refusing.

    Raises:
        ConfigError: when nothing would change, a rebuild with another configuration is under way, or labels do not
            fit.
        BackboneError, DataError: when the public artifacts cannot be made.
        LMEraserError: when clusters cannot be tuned, or the draft keeps failing; the live generation goes on.
    """
    store, hash_key = open_store(site.store_uri), load_hash_key(Path(site.keys_folder))
    live = load_manifest(store)
    wanted = config.state(config.labels or live.config.labels)
    status: RebuildStatus | None = ray.get(coordinator.rebuild_status.remote())
    fitted = False
    if status is None or not draft_of(store, status.generation).exists(MANIFEST):
        _check_changes(live, wanted)
        check_labels(live.config.labels, wanted.labels, renamed, live_labels(store, hash_key))
        fitted = not _keeps_artifacts(live, wanted, config)
        if fitted:
            artifacts = fit(config, wanted, store, report, skip_bad=skip_bad).artifacts
        else:
            artifacts = load_public(store, live)
        generation = status.generation if status is not None else ray.get(coordinator.begin_rebuild.remote())
        create_draft(store, generation, wanted, artifacts, renamed)
    else:
        generation = status.generation
        _check_resumable(draft_of(store, generation), generation, wanted, renamed)
    ray.get(coordinator.open_draft.remote())
    manifest = load_manifest(draft_of(store, generation))
    passed = DraftRows(live, manifest, renamed, _no_pipeline).computes
    job = _Fill(coordinator, site, generation, renamed, report, numerics_selector(manifest.fingerprint))
    job.run(on_gpu=manifest.config.backbone.device == "cuda")
    newest = load_manifest(store)
    if newest.generation != generation:
        raise NotReadyError(f"the rebuild of generation {generation} was abandoned by another command")
    after = ray.get(coordinator.status.remote())
    return RebuildSummary(generation, status is not None, fitted, passed, after.rows, after.state_root)


def watch(coordinator: Any, report: Progress) -> bool:
    """Report how far the rebuild that is under way is, until it ends; False if none is."""
    if ray.get(coordinator.rebuild_status.remote()) is None:
        return False
    while (status := ray.get(coordinator.rebuild_status.remote())) is not None:
        _report(status, report)
        time.sleep(_POLL_S)
    return True


def _no_pipeline() -> Pipeline:
    raise AssertionError("only asked whether anything is computed")


def _check_changes(live: Manifest, wanted: StateConfig) -> None:
    if asdict(live.config) == asdict(wanted) and live.fingerprint == fingerprint_here(live.fingerprint):
        raise ConfigError("nothing would change: the store has this configuration, under the numerics of this machine")


def _keeps_artifacts(live: Manifest, wanted: StateConfig, config: Config) -> bool:
    """Whether the public artifacts would be the same; trained weights may be others under the same configuration."""
    if config.backbone_digest and not live.public_digests["backbone"].startswith(config.backbone_digest):
        return False
    return same_public_artifacts(live, wanted)


def _check_resumable(draft: Store, generation: str, wanted: StateConfig, renamed: Mapping[str, str]) -> None:
    begun, names = load_manifest(draft).config, json.loads(draft.get(RENAMED))
    if asdict(begun) != asdict(wanted) or names != dict(renamed):
        raise ConfigError(
            f"generation {generation} is being made with another configuration or other labels: give those again to "
            "finish it, or run `lmeraser rebuild --abandon` first"
        )


@dataclass(frozen=True)
class _Fill:
    """Fills the draft round by round, until the store has switched to it."""

    coordinator: Any
    site: StoreRef
    generation: str
    renamed: Mapping[str, str]
    report: Progress
    numerics: Mapping[str, str]

    def run(self, *, on_gpu: bool) -> None:
        """Return when the rebuild has ended. Raises as :func:`rebuild` does."""
        failing_since: float | None = None
        while (status := ray.get(self.coordinator.rebuild_status.remote())) is not None:
            _report(status, self.report)
            draft = status.draft
            if draft is not None and draft.failed:
                key, reason = next(iter(draft.failed.items()))
                raise LMEraserError(f"{len(draft.failed)} cluster(s) could not be tuned; {key}: {reason}")
            failing_since = None if not status.problem else failing_since or time.monotonic()
            if failing_since is not None and time.monotonic() - failing_since > _PATIENCE_S:
                raise LMEraserError(status.problem)
            if draft is not None and draft.rows < status.rows:
                self._round(on_gpu=on_gpu)
            time.sleep(_POLL_S)

    def _round(self, *, on_gpu: bool) -> None:
        store, hash_key = open_store(self.site.store_uri), load_hash_key(Path(self.site.keys_folder))
        have_M = ray.put(draft_samples(store, hash_key, self.generation))
        for batch in live_batches(store):
            try:
                self._add(batch, have_M, on_gpu=on_gpu)
            except (RequestError, NotReadyError):
                # A row of the batch is being erased, or the coordinator has started again: the next round has the rest.
                time.sleep(_POLL_S)
            status = ray.get(self.coordinator.rebuild_status.remote())
            if status is None:
                return
            _report(status, self.report)

    def _add(self, batch: Sequence[LiveSegment], have_M: Any, *, on_gpu: bool) -> None:
        prefix = ray.get(self.coordinator.begin_fill.remote())
        try:
            if self._write(batch, have_M, prefix, on_gpu=on_gpu):
                ray.get(self.coordinator.fill.remote(prefix))
                return
        except BaseException:
            ray.get(self.coordinator.abandon_fill.remote(prefix))
            raise
        ray.get(self.coordinator.abandon_fill.remote(prefix))

    def _write(self, batch: Sequence[LiveSegment], have_M: Any, prefix: str, *, on_gpu: bool) -> int:
        """Have workers write the rows that the draft lacks; how many there were."""
        cores = int(ray.cluster_resources().get("GPU" if on_gpu else "CPU", 1))
        workers = max(1, min(cores, len(batch)))
        write = _write_draft_rows.options(
            num_cpus=_WRITER_CPUS, num_gpus=OTHERS_GPU_SHARE if on_gpu else 0, label_selector=self.numerics or None
        )
        pending = [
            write.remote(self.site, self.generation, self.renamed, have_M, prefix, batch[index::workers])
            for index in range(workers)
        ]
        written = 0
        try:
            while pending:
                ready, pending = ray.wait(pending, timeout=_RENEW_S)
                ray.get(self.coordinator.renew_fill.remote(prefix))
                written += sum(ray.get(ready))
        finally:
            for task in pending:
                ray.cancel(task, force=True)
        return written


def _report(status: RebuildStatus, report: Progress) -> None:
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
