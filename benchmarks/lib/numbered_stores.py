"""Stores of numbered rows: real segments, indexes, prompts, prompted features, heads and log, made without an ingest.

Each cluster is written by the code that owners use, without waiting for the disk, and its entry is kept until all are
there; so making a store that was interrupted goes on, by several processes where wanted.

Legend: N rows.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from actors.checkpoints import checkpoint_now
from actors.committer import put_heads
from actors.coordinator import Coordinator
from actors.journal import Journal
from actors.owners import InProcessOwners
from actors.segment_access import SegmentAccess
from benchmarks.lib.numbered_rows import ANCHORS, HEAD_DIM, LABELS, NumberedMethod, anchors_of, dendrogram, table_of
from lmeraser.config import BackboneConfig, HeadsConfig, PartitionConfig, PromptConfig, StateConfig
from lmeraser.hashing import HashKey, canonical_json
from lmeraser.learning.heads import Statistics
from lmeraser.learning.numerics import deterministic
from lmeraser.learning.partition import cut
from lmeraser.learning.region import Region
from lmeraser.state.checkpoint import CommitReader
from lmeraser.state.cluster_entry import ClusterEntry
from lmeraser.state.commit import Commit
from lmeraser.state.digests import state_leaf
from lmeraser.state.heads_state import HeadsState
from lmeraser.state.keys import init_keys, load_hash_key, load_signing_key, public_pem
from lmeraser.state.layout import MANIFEST, PUBLIC_KEY, coreset_part, new_prompt_object, prompt_part, rows_part
from lmeraser.state.log import Position
from lmeraser.state.manifest import Manifest, load_manifest
from lmeraser.state.provenance import coreset_contents
from lmeraser.state.public_artifacts import PublicArtifacts, create_store
from lmeraser.state.specialist import Prompt
from lmeraser.state.tensors import tensors_from_bytes, tensors_to_bytes
from lmeraser.store import LocalStore, Store
from lmeraser.store.names import check_name

MAX_CLUSTER_ROWS = PartitionConfig().max_cluster_rows
# Clusters are written before there is any record.
_BEFORE_THE_LOG = Position(1, 0)
_CLUSTER_FOLDERS = ("rows", "prompts", "prompted")


class UnsyncedStore(LocalStore):
    """Writes objects in place and does not wait for the disk: for stores that are made again after a power failure."""

    def put(self, name: str, data: bytes) -> None:
        path = self._root / check_name(name)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_bytes(data)


@dataclass(frozen=True)
class NumberedStore:
    """A folder with a store of numbered rows, and its keys.

    Attributes:
        folder: holds ``store`` and ``keys``.
    """

    folder: Path

    @property
    def store(self) -> Store:
        """The store, which waits for the disk."""
        return LocalStore(self.folder / "store")

    @property
    def manifest(self) -> Manifest:
        """Its manifest."""
        return load_manifest(self.store)

    @property
    def hash_key(self) -> HashKey:
        """Its hash key."""
        return load_hash_key(self.folder / "keys")

    @property
    def method(self) -> Any:
        """What stands for its pipeline."""
        return NumberedMethod(self.manifest.config)

    @property
    def commit(self) -> Commit | None:
        """Its newest commit."""
        return CommitReader(self.store).advance()

    def coordinator(self, store: Store | None = None) -> Coordinator:
        """A coordinator that works on request and waits for no lease.

        Args:
            store: what it reads and writes through; None for the store itself.
        """
        store, manifest, method = store or self.store, self.manifest, self.method
        owners = InProcessOwners(store, manifest, self.hash_key, lambda: method)
        return Coordinator(store, manifest, self.hash_key, load_signing_key(self.folder / "keys"), owners, lease_s=0.0)


@contextmanager
def copy_of(made: NumberedStore, name: str) -> Iterator[NumberedStore]:
    """A copy to change, of hard links: objects are never changed in place. It is removed at the end."""
    folder = made.folder.with_name(f"{made.folder.name}-{name}")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(made.folder / "store", folder / "store", copy_function=_linked)
    shutil.copytree(made.folder / "keys", folder / "keys")
    try:
        yield NumberedStore(folder)
    finally:
        shutil.rmtree(folder)


def _linked(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


def regions_of(rows: int, max_cluster_rows: int) -> list[Region]:
    """The regions of the clusters that the rows 0, 1, …, ``rows - 1`` are partitioned into."""
    if rows > ANCHORS * max_cluster_rows:
        raise ValueError(f"{rows} rows: allowed are at most {ANCHORS * max_cluster_rows}, so that no anchor is divided")
    anchors_N = anchors_of(np.arange(rows))
    partition = cut(dendrogram(), anchors_N, np.zeros(rows, np.uint64), max_cluster_rows)
    return [cluster.region for cluster in partition.clusters]


def make(folder: Path, rows: int, max_cluster_rows: int = MAX_CLUSTER_ROWS, processes: int = 1) -> NumberedStore:
    """The store of the rows 0, 1, …, ``rows - 1`` in this folder; what is missing of it is made."""
    made = NumberedStore(folder)
    if not (folder / "store" / MANIFEST).exists():
        _create(folder, max_cluster_rows)
    if rows == 0 or made.commit is not None:
        return made
    regions = regions_of(rows, max_cluster_rows)
    waiting = [region for region in regions if not _entry_file(folder, region).exists()]
    if processes == 1:
        for region in waiting:
            _write_cluster(folder, region, rows)
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(processes, context) as executor:
            futures = [executor.submit(_write_cluster, folder, region, rows) for region in waiting]
            for future in futures:
                future.result()
    _append_commit(made, regions)
    shutil.rmtree(folder / "made")
    return made


def _create(folder: Path, max_cluster_rows: int) -> None:
    config = StateConfig(
        labels=LABELS,
        backbone=BackboneConfig("vit_tiny_patch16_224", "trained", 16),
        partition=PartitionConfig(anchors=ANCHORS, max_cluster_rows=max_cluster_rows),
        prompt=PromptConfig("token", public_epochs=0),
        heads=HeadsConfig(head_dim=HEAD_DIM),
    )
    # No image passes a backbone or looks for an anchor.
    artifacts = PublicArtifacts(
        backbone={"weight": np.zeros(1, np.float32)},
        partition={"anchors_AR": np.arange(ANCHORS, dtype=np.float32)[:, None], **dendrogram().tensors()},
        features={"mean_F": np.zeros(HEAD_DIM), "projection_FH": np.eye(HEAD_DIM)},
        feature_batch=32,
    )
    shutil.rmtree(folder, ignore_errors=True)
    init_keys(folder / "keys")
    store = LocalStore(folder / "store")
    store.put(PUBLIC_KEY, public_pem(load_signing_key(folder / "keys").public_key()))
    create_store(store, config, artifacts)


def _write_cluster(folder: Path, region: Region, rows: int) -> None:
    """Write a cluster's objects, and then its entry and its sums."""
    for name in _CLUSTER_FOLDERS:
        # Of a process that was interrupted.
        shutil.rmtree(folder / "store" / name / region.key, ignore_errors=True)
    made = NumberedStore(folder)
    table = table_of(np.sort(np.concatenate([np.arange(anchor, rows, ANCHORS) for anchor in region.anchors])))
    manifest, hash_key, method = made.manifest, made.hash_key, made.method
    access = SegmentAccess(UnsyncedStore(folder / "store"), manifest, hash_key, region.key)
    index = access.index_of(table)
    coreset_rows = manifest.config.tuning.coreset_rows
    features_NH, prompted = None, {}
    pooled = Statistics.zero(HEAD_DIM, len(LABELS))
    if manifest.config.tunes(len(table)):
        prompt = Prompt(method.tuned_prompt(table.at(index.coreset(coreset_rows))))
        name = new_prompt_object(manifest.folder, region.key)
        access.put(name, prompt.to_safetensors(), _BEFORE_THE_LOG)
        leaf = state_leaf(hash_key, prompt_part(region.key), prompt.digest())
        prompted = {"prompt_object": name, "prompt_leaf": leaf}
        features_NH = method.embedded(table.images, prompt.values)
        pooled = _sums(features_NH, table.labels_N)
    segments = access.write(table, index, features_NH, _BEFORE_THE_LOG)
    entry = ClusterEntry(
        key=region.key,
        anchors=region.anchors,
        bits=region.bits,
        rows=len(table),
        segments=tuple(segments),
        rows_leaf=state_leaf(hash_key, rows_part(region.key), index.rows_digest()),
        coreset_leaf=state_leaf(hash_key, coreset_part(region.key), index.coreset_digest(coreset_rows)),
        coreset_contents=coreset_contents(hash_key, index, manifest.config),
        **prompted,
        prompted_leaf=access.prompted_leaf(segments) if prompted else None,
    )
    sums = _sums(table.features_NH, table.labels_N).tensors("shared.") | pooled.tensors("pooled.")
    file = _entry_file(folder, region)
    file.parent.mkdir(exist_ok=True)
    file.with_suffix(".safetensors").write_bytes(tensors_to_bytes(sums))
    partial = file.with_suffix(".partial")
    partial.write_bytes(canonical_json(entry.to_json(None)))
    partial.rename(file)


def _append_commit(made: NumberedStore, regions: Sequence[Region]) -> None:
    """Solve the heads, append a term and the commit that names all clusters, and write a checkpoint."""
    shared = pooled = Statistics.zero(HEAD_DIM, len(LABELS))
    entries = []
    for file in (_entry_file(made.folder, region) for region in regions):
        entries.append(ClusterEntry.from_json(json.loads(file.read_bytes()), None))
        sums = tensors_from_bytes(file.with_suffix(".safetensors").read_bytes(), file.stem)
        shared += Statistics.from_tensors(sums, "shared.")
        pooled += Statistics.from_tensors(sums, "pooled.")
    with deterministic():
        heads = HeadsState.of(shared, pooled)
    commit = Commit(
        tuple(sorted(entries, key=lambda entry: entry.key)),
        put_heads(made.store, made.manifest.folder, made.hash_key, heads),
        made.manifest.leaves(made.hash_key),
    )
    journal = Journal(made.store)
    journal.open_term()
    journal.append_commit(commit)
    signing_key = load_signing_key(made.folder / "keys")
    checkpoint_now(made.store, journal.history, journal.head, signing_key, journal.check)


def _sums(features_NH: np.ndarray, labels_N: np.ndarray) -> Statistics:
    with deterministic():
        return Statistics.of(features_NH, labels_N, len(LABELS))


def _entry_file(folder: Path, region: Region) -> Path:
    return folder / "made" / f"{region.key}.json"
