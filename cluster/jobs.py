"""The jobs that the command line runs on Ray over a store: ingest rows, and tune the clusters that await it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import ray

from actors.coordinator_status import CoordinatorStatus
from actors.ingests import IngestOutcome
from actors.remote.placement import OTHERS_GPU_SHARE, StoreRef, numerics_selector
from cluster.sorted_runs import SortedRuns
from lmeraser.config import ImagesConfig, SourceConfig
from lmeraser.data import (
    SampleChecks,
    Source,
    SourceReport,
    located,
    open_source,
    sample_chunks,
    unusable_images,
)
from lmeraser.errors import DataError, LMEraserError
from lmeraser.garbage import lasting_imports
from lmeraser.progress import Progress
from lmeraser.state.fingerprint import check_fingerprint, fingerprint_here
from lmeraser.state.keys import load_hash_key
from lmeraser.state.manifest import Manifest, load_manifest
from lmeraser.store import open_store

_CHUNK_ROWS = 256
# Less than one CPU, because on a small machine owners and a replica may occupy the rest as long as they run.
_WRITER_CPUS = 0.5
_POLL_S = 0.1
_RENEW_S = 0.5
_CANCEL_S = 10.0


@dataclass(frozen=True)
class IngestSummary:
    """The result of an ingest.

    Attributes:
        outcome: how many rows were added, present already, or left out because they were erased.
        skipped: why images were left out, by sample id.
        source: what the source left out, and how many of its rows had no sample id.
    """

    outcome: IngestOutcome
    skipped: Mapping[str, str]
    source: SourceReport


def ingest(
    coordinator: Any,
    site: StoreRef,
    manifest: Manifest,
    source: SourceConfig,
    *,
    skip_bad: bool,
    force: bool,
    report: Progress,
    images: ImagesConfig | None = None,
) -> IngestSummary:
    """Have Ray workers write the rows of the source into the store, and have the coordinator commit them all or none.

    Every worker reads its own part of the source: rows never pass through Ray's object store. It decodes each image
    once, and reports those that cannot be decoded when it has read them all.

    Args:
        coordinator: the coordinator's actor handle.
        site: where workers find the store.
        manifest: the store's.
        source: where the rows come from.
        skip_bad: leave undecodable images out instead of refusing.
        force: take rows that were erased before, too.
        report: called with what is being done, how much of it is done, and how much there is.
        images: which images are taken.

    Raises:
        DataError: when the source holds no rows, repeats a sample id, or holds undecodable images.
        DuplicateSampleError: when a sample id is in the store with other content.
        FingerprintError: when the numerics here are not the store's.
    """
    check_fingerprint(manifest.fingerprint, fingerprint_here(manifest.fingerprint))
    reading = _Reading(located(source), images or ImagesConfig(), skip_bad)
    source_report = SourceReport()
    rows = reading.open(site, source_report).count()
    if rows == 0:
        raise _no_rows(source_report)
    prefix = ray.get(coordinator.begin_ingest.remote())
    try:
        parts = _write_all(coordinator, site, manifest, reading, prefix, rows, report)
        skipped = {name: reason for part in parts for name, reason in part.skipped.items()}
        any_good = any(part.written for part in parts)
        if skipped and not skip_bad:
            raise unusable_images(skipped, any_good)
        if not any_good:
            raise _no_rows(source_report)
        source_report.unnamed = sum(part.unnamed for part in parts)
        outcome: IngestOutcome = ray.get(coordinator.ingest.remote(prefix, force))
        present = outcome.present + sum(part.repeated for part in parts)
        return IngestSummary(replace(outcome, present=present), skipped, source_report)
    except BaseException:
        ray.get(coordinator.abandon_ingest.remote(prefix))
        raise


def _no_rows(source_report: SourceReport) -> DataError:
    left_out = f"; files that were left out: {source_report.summary()}" if source_report.left_out else ""
    return DataError(f"the private source holds no rows that can be used{left_out}")


@dataclass(frozen=True)
class _Reading:
    """How the source is read, by the job and by each of its workers."""

    source: SourceConfig
    images: ImagesConfig
    skip_bad: bool

    def open(self, site: StoreRef, source_report: SourceReport) -> Source:
        key = load_hash_key(Path(site.keys_folder))
        return open_source(self.source, images=self.images, name_key=key, report=source_report)


@dataclass(frozen=True)
class _Part:
    """How far a worker is with its part of the source.

    Attributes:
        read: rows that it has read.
        written: rows that it has taken in; complete in the last report, as are the others below.
        repeated: rows that were left out because they came before in its part, equal in everything.
        skipped: why images cannot be decoded, by sample id.
        unnamed: rows that had no sample id.
    """

    read: int = 0
    written: int = 0
    repeated: int = 0
    skipped: Mapping[str, str] = field(default_factory=dict)
    unnamed: int = 0


def _write_all(
    coordinator: Any, site: StoreRef, manifest: Manifest, reading: _Reading, prefix: str, rows: int, report: Progress
) -> list[_Part]:
    """Have workers write all rows of the source under the prefix; when this returns or raises, none writes any more."""
    on_gpu = manifest.config.backbone.device == "cuda"
    cores = int(ray.cluster_resources().get("GPU" if on_gpu else "CPU", 1))
    workers = max(1, min(cores, -(-rows // _CHUNK_ROWS)))
    write = _write_incoming.options(
        num_cpus=_WRITER_CPUS,
        num_gpus=OTHERS_GPU_SHARE if on_gpu else 0,
        label_selector=numerics_selector(manifest.fingerprint) or None,
    )
    streams = {write.remote(site, reading, prefix, workers, index): index for index in range(workers)}
    parts = [_Part()] * workers
    try:
        while streams:
            ready, _ = ray.wait(list(streams), timeout=_RENEW_S)
            ray.get(coordinator.renew_ingest.remote(prefix))
            for stream in ready:
                try:
                    parts[streams[stream]] = ray.get(next(stream))
                except StopIteration:
                    del streams[stream]
            report("private rows", sum(part.read for part in parts), rows)
    finally:
        for stream in streams:
            ray.cancel(stream, force=True)
        if streams:
            ended = [stream.completed() for stream in streams]
            ray.wait(ended, num_returns=len(ended), timeout=_CANCEL_S)
    return parts


def tune(coordinator: Any, report: Progress) -> CoordinatorStatus:
    """Wait until no cluster awaits a tuning; the coordinator starts the tunings by itself.

    Returns:
        The coordinator's last status.

    Raises:
        LMEraserError: when the tuning of a cluster keeps failing, or none is started because the numerics are not the
            store's.
    """
    total = 0
    while True:
        status: CoordinatorStatus = ray.get(coordinator.status.remote())
        awaiting = len(status.awaiting)
        total = max(total, awaiting)
        report("tunings", total - awaiting, total)
        if status.idle:
            break
        if status.held:
            raise LMEraserError(status.held)
        time.sleep(_POLL_S)
    if status.failed:
        key, reason = next(iter(status.failed.items()))
        raise LMEraserError(f"{len(status.failed)} cluster(s) could not be tuned; {key}: {reason}")
    return status


# The worker ends with its task: an idle worker would keep a gigabyte for torch and its arrays.
@ray.remote(max_calls=1)
def _write_incoming(site: StoreRef, reading: _Reading, prefix: str, workers: int, index: int) -> Iterator[_Part]:
    """Write part ``index`` of ``workers`` of the source; gives now and then how far it is."""
    # Only here: the process that waits for the workers needs no torch.
    with lasting_imports():
        from lmeraser.state.pipeline_loading import load_pipeline

    store = open_store(site.store_uri)
    manifest = load_manifest(store)
    pipeline = load_pipeline(store, manifest)
    labels = manifest.config.labels
    # Named by worker and turn, so that a worker that Ray starts again puts no row twice.
    hash_key = load_hash_key(Path(site.keys_folder))
    runs = SortedRuns(store, hash_key, manifest.config, f"{prefix}{index:04d}-", pipeline.dendrogram)
    source_report = SourceReport()
    # Ids are compared within this part here, and across parts by the coordinator, which sees only written rows:
    # the id of a skipped image may come again in another part.
    checks = SampleChecks(labels, reading.images, pipeline.config.backbone.image_px)
    read = written = 0
    shard = reading.open(site, source_report).shard(workers, index)
    for chunk in sample_chunks(shard.samples(labels), _CHUNK_ROWS):
        decoded = list(checks.decoded(chunk))
        read += len(chunk)
        written += len(decoded)
        # After a bad image nothing will be committed: the rest is only checked, so that the error names all of them.
        if decoded and (reading.skip_bad or not checks.skipped):
            samples, images = zip(*decoded, strict=True)
            runs.add(pipeline.rows_of_images(samples, np.stack(images)))
        yield _Part(read)
    runs.write()
    yield _Part(read, written, checks.repeated, checks.skipped, source_report.unnamed)
