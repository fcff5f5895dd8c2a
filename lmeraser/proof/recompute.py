"""The state that a set of rows gives, computed from nothing else.

This is the independent side of ``lmeraser verify``: it knows no commits, no owners and no subtraction.

Legend: N rows.
"""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

import numpy as np

from lmeraser.data import Sample
from lmeraser.hashing import HashKey
from lmeraser.learning.heads import Statistics
from lmeraser.learning.numerics import deterministic
from lmeraser.learning.partition import Partition
from lmeraser.progress import Progress
from lmeraser.state.digests import state_leaf
from lmeraser.state.heads_state import HeadsState
from lmeraser.state.layout import prompt_part, prompted_part, rows_part
from lmeraser.state.manifest import Manifest, load_manifest
from lmeraser.state.pipeline import Pipeline, chunks
from lmeraser.state.pipeline_loading import load_pipeline
from lmeraser.state.rows import RowTable
from lmeraser.state.specialist import Specialist
from lmeraser.store import open_store

_CHUNK = 128
T = TypeVar("T")


def fresh_leaves(
    pipeline: Pipeline,
    manifest: Manifest,
    hash_key: HashKey,
    samples: Sequence[Sample],
    workers: Executor | None = None,
    report: Progress | None = None,
) -> dict[str, str]:
    """The leaves of the state root over these rows.

    Args:
        pipeline: of the store.
        manifest: of the store.
        hash_key: the key that the leaves are hashed under.
        samples: all rows, in any order.
        workers: from :func:`worker_processes`; without them, everything runs in this process.
        report: called as features and tunings are computed.
    """
    table = rows_of(pipeline, samples, workers, report)
    bits_N = table.bits(pipeline.config.seed)
    with deterministic():
        partition = pipeline.partition(table.anchors_N, bits_N)
    clusters = members(partition, table, bits_N)
    tuned = {key: rows for key, rows in clusters.items() if pipeline.config.tunes(len(rows))}
    specialists = dict(zip(tuned, specialists_of(pipeline, list(tuned.values()), workers, report), strict=True))
    digests = {rows_part(key): rows.digest() for key, rows in clusters.items()}
    for key, specialist in specialists.items():
        digests[prompt_part(key)], digests[prompted_part(key)] = specialist.digests(clusters[key])
    digests |= _heads(pipeline, table, list(specialists.values())).digests()
    leaves = {name: state_leaf(hash_key, name, digest) for name, digest in digests.items()}
    return leaves | manifest.leaves(hash_key)


def rows_of(
    pipeline: Pipeline, samples: Sequence[Sample], workers: Executor | None = None, report: Progress | None = None
) -> RowTable:
    """The samples' rows, sorted by sample id."""
    parts = list(chunks(samples, _CHUNK))
    done = workers.map(_rows_in_worker, parts) if workers else map(pipeline.rows, parts)
    return RowTable.concatenate(_reported(done, "features", len(parts), report), pipeline.feature_map.width)


def specialists_of(
    pipeline: Pipeline,
    clusters: Sequence[RowTable],
    workers: Executor | None = None,
    report: Progress | None = None,
    what: str = "tunings",
) -> list[Specialist]:
    """The specialist of each cluster, in their order.

    Prompts are tuned first, progress being reported as ``what``; then all rows are embedded in parts, so that several
    workers share the rows of one large cluster.
    """
    coresets = map(pipeline.coreset, clusters)
    tuned = workers.map(_prompt_in_worker, coresets) if workers else map(pipeline.tuned_prompt, coresets)
    prompts = list(_reported(tuned, what, len(clusters), report))
    parts = [
        (images, prompt)
        for rows, prompt in zip(clusters, prompts, strict=True)
        for images in chunks(rows.images, _CHUNK)
    ]
    done = workers.map(_features_in_worker, parts) if workers else (pipeline.embedded(*part) for part in parts)
    features = iter(_reported(done, "embeddings", len(parts), report))
    return [
        Specialist(prompt, np.concatenate(list(islice(features, -(-len(rows) // _CHUNK)))), rows.labels_N)
        for rows, prompt in zip(clusters, prompts, strict=True)
    ]


@contextmanager
def worker_processes(store_uri: str, count: int) -> Iterator[Executor]:
    """So many processes that have the store's pipeline loaded; a single one is a thread of this process.

    Starting a process and importing PyTorch takes longer than to verify a small store.
    """
    if count == 1:
        with ThreadPoolExecutor(1, initializer=_load_in_worker, initargs=(store_uri,)) as executor:
            yield executor
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, context, initializer=_load_in_worker, initargs=(store_uri,)) as executor:
        yield executor


def use_in_worker(pipeline: Pipeline) -> None:
    """Have the calling thread recompute with this pipeline: the initializer of an executor of threads."""
    _worker.pipeline = pipeline


def members(partition: Partition, table: RowTable, bits_N: np.ndarray) -> dict[str, RowTable]:
    """The rows of each cluster of the partition, by its key."""
    keys_N = np.array(partition.index.keys_of(table.anchors_N, bits_N), object)
    return {cluster.key: table.where(keys_N == cluster.key) for cluster in partition.clusters}


def _heads(pipeline: Pipeline, table: RowTable, specialists: Sequence[Specialist]) -> HeadsState:
    nothing = Statistics.zero(table.features_NH.shape[1], len(pipeline.config.labels))
    with deterministic():
        return HeadsState.of(Statistics.of_all([table], nothing), Statistics.of_all(specialists, nothing))


def _reported(done: Iterable[T], what: str, total: int, report: Progress | None) -> Iterator[T]:
    for count, value in enumerate(done, start=1):
        if report is not None:
            report(what, count, total)
        yield value


class _Worker(threading.local):
    """What an executor's initializer leaves to its tasks; each worker runs both in one thread."""

    pipeline: Pipeline


_worker = _Worker()


def _load_in_worker(store_uri: str) -> None:
    store = open_store(store_uri)
    use_in_worker(load_pipeline(store, load_manifest(store)))


def _rows_in_worker(samples: list[Sample]) -> RowTable:
    return _worker.pipeline.rows(samples)


def _prompt_in_worker(coreset: RowTable) -> np.ndarray:
    return _worker.pipeline.tuned_prompt(coreset)


def _features_in_worker(part: tuple[list[bytes], np.ndarray]) -> np.ndarray:
    return _worker.pipeline.embedded(*part)
