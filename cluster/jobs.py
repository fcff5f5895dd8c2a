"""The jobs that the command line runs on Ray over a store: ingest rows, tune what awaits it, delete."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from actors.coordinator_status import CoordinatorStatus
from actors.ingests import IngestOutcome
from actors.remote.placement import OTHERS_GPU_SHARE, StoreRef
from cluster.sorted_runs import SortedRuns
from lmeraser.config import ImagesConfig, SourceConfig
from lmeraser.data import (
    CheckedSamples,
    Sample,
    SourceReport,
    check_samples,
    located,
    open_source,
    sample_chunks,
)
from lmeraser.errors import DataError, LMEraserError
from lmeraser.state.keys import load_hash_key
from lmeraser.state.manifest import Manifest, load_manifest
from lmeraser.state.public_artifacts import load_pipeline
from lmeraser.store import open_store

_CHUNK_ROWS = 256
# Less than a whole one, because owners and a replica may hold the rest of a small machine for as long as they serve.
_WRITER_CPUS = 0.5
_POLL_S = 0.1
_RENEW_S = 0.5
_CANCEL_S = 10.0
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class IngestSummary:
    """What an ingest did.

    Attributes:
        outcome: what became of the rows.
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
    report: Report,
    images: ImagesConfig | None = None,
) -> IngestSummary:
    """Check the source, have Ray workers write its rows into the store, and have the coordinator commit them.

    Every worker reads the source itself: rows never pass through Ray's object store.

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
    """
    reading = _Reading(located(source), images or ImagesConfig(), skip_bad)
    labels = manifest.config.labels
    said = SourceReport()
    check = reading.checked(reading.samples(site, labels, said), labels)
    rows = sum(1 for _ in check)
    if rows == 0:
        left_out = f"; files that were left out: {said.told()}" if said.left_out else ""
        raise DataError(f"the private source holds no rows that can be used{left_out}")
    prefix = ray.get(coordinator.begin_ingest.remote())
    try:
        _write_all(coordinator, site, reading, prefix, rows, report)
        return IngestSummary(ray.get(coordinator.ingest.remote(prefix, force)), check.skipped, said)
    except BaseException:
        ray.get(coordinator.abandon_ingest.remote(prefix))
        raise


@dataclass(frozen=True)
class _Reading:
    """How the source is read, by the job and by each of its workers."""

    source: SourceConfig
    images: ImagesConfig
    skip_bad: bool

    def samples(self, site: StoreRef, labels: tuple[str, ...], report: SourceReport | None = None) -> Iterator[Sample]:
        key = load_hash_key(Path(site.keys_folder))
        return open_source(self.source, images=self.images, name_key=key, report=report).samples(labels)

    def checked(self, samples: Iterable[Sample], labels: tuple[str, ...]) -> CheckedSamples:
        return check_samples(samples, labels, skip_bad=self.skip_bad, images=self.images)


def _write_all(coordinator: Any, site: StoreRef, reading: _Reading, prefix: str, rows: int, report: Report) -> None:
    """Have workers write all rows of the source under the prefix; when this returns or raises, none writes any more."""
    on_gpu = load_manifest(open_store(site.store_uri)).config.backbone.device == "cuda"
    cores = int(ray.cluster_resources().get("GPU" if on_gpu else "CPU", 1))
    workers = max(1, min(cores, -(-rows // _CHUNK_ROWS)))
    write = _write_incoming.options(num_cpus=_WRITER_CPUS, num_gpus=OTHERS_GPU_SHARE if on_gpu else 0)
    streams = {write.remote(site, reading, prefix, place, workers): place for place in range(workers)}
    done = [0] * workers
    try:
        while streams:
            ready, _ = ray.wait(list(streams), timeout=_RENEW_S)
            ray.get(coordinator.renew_ingest.remote(prefix))
            for stream in ready:
                try:
                    done[streams[stream]] = ray.get(next(stream))
                except StopIteration:
                    del streams[stream]
            report("private rows", sum(done), rows)
    finally:
        for stream in streams:
            ray.cancel(stream, force=True)
        if streams:
            ended = [stream.completed() for stream in streams]
            ray.wait(ended, num_returns=len(ended), timeout=_CANCEL_S)


def tune(coordinator: Any, report: Report) -> CoordinatorStatus:
    """Wait until no cluster awaits a tuning; the coordinator has them tuned by itself.

    Returns:
        The coordinator's status.

    Raises:
        LMEraserError: when a cluster's tuning keeps failing.
    """
    total = 0
    while True:
        status: CoordinatorStatus = ray.get(coordinator.status.remote())
        awaiting = len(status.awaiting)
        total = max(total, awaiting)
        report("tunings", total - awaiting, total)
        if status.idle:
            break
        time.sleep(_POLL_S)
    if status.failed:
        key, reason = next(iter(status.failed.items()))
        raise LMEraserError(f"{len(status.failed)} cluster(s) could not be tuned; {key}: {reason}")
    return status


# The worker ends with its task: an idle one would keep torch and its arrays, a gigabyte.
@ray.remote(max_calls=1)
def _write_incoming(site: StoreRef, reading: _Reading, prefix: str, place: int, workers: int) -> Iterator[int]:
    """Write every ``workers``-th chunk of the source, from the ``place``-th on; gives how many rows it has taken in."""
    store = open_store(site.store_uri)
    manifest = load_manifest(store)
    pipeline = load_pipeline(store, manifest)
    labels = manifest.config.labels
    # Named by worker and turn, so that a worker that Ray starts again puts no row twice.
    runs = SortedRuns(store, load_hash_key(Path(site.keys_folder)), f"{prefix}{place:04d}-", pipeline.dendrogram)
    read = 0
    for number, chunk in enumerate(sample_chunks(reading.samples(site, labels), _CHUNK_ROWS)):
        if number % workers == place:
            table = pipeline.rows(reading.checked(chunk, labels))
            runs.add(table)
            read += len(table)
            yield read
    runs.write()
