"""Made-up rows, the method that they stand for, and the truth about any set of them.

Each row adds a power of two to one feature, so sums tell exactly which rows they are of.

Legend: N rows, H head features.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lmeraser.config import HeadsConfig, PartitionConfig, StateConfig, TuningConfig
from lmeraser.data import Sample
from lmeraser.errors import ObjectCorruptError
from lmeraser.hashing import HashKey
from lmeraser.learning.partition import Dendrogram, Partition, cut
from lmeraser.proof.recompute import fresh_leaves
from lmeraser.state.digests import tensor_digest
from lmeraser.state.heads_state import Sums
from lmeraser.state.keys import public_pem
from lmeraser.state.layout import PUBLIC_KEY
from lmeraser.state.manifest import Manifest, create_manifest, load_manifest
from lmeraser.state.merkle import merkle_root
from lmeraser.state.rows import RowTable
from lmeraser.state.specialist import PromptedFeatures, RemovedFeatures
from lmeraser.state.tensors import tensors_to_bytes
from simulator.choices import ReplayedChoices
from simulator.scheduler import Scheduler
from simulator.store import MemoryStore

HASH_KEY = HashKey(bytes(range(32)))
SIGNING_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
LABELS = ("red", "green")
WIDTH = 3
ANCHORS = 4
LEASE_S = 0.4
DENDROGRAM = Dendrogram(np.array([[0, 1], [2, 3], [4, 5]], np.int32))
FINGERPRINT = {"feature_batch": "32", "accelerator": ""}
ROWS = 12
# The subjects of the rows; the last row has none.
SUBJECTS = ("ann", "ann", "bob", "bob", "bob", "cid", "cid", "dot", "eve", "eve", "fay", None)
PEOPLE = tuple(sorted({subject for subject in SUBJECTS if subject is not None}))


@dataclass(frozen=True, order=True)
class Row:
    """A row of the simulation; another version has other bytes."""

    number: int
    version: int = 0

    @property
    def sample_id(self) -> str:
        return f"row-{self.number:02d}"

    @property
    def subject_id(self) -> str | None:
        return SUBJECTS[self.number]

    @property
    def image(self) -> bytes:
        return f"<picture of {self.sample_id}, version {self.version}>".encode()

    def sample(self) -> Sample:
        return Sample(self.sample_id, self.subject_id, self.number % len(LABELS), self.image)


ALL = tuple(Row(number, version) for number in range(ROWS) for version in (0, 1))
BY_IMAGE = {row.image: row for row in ALL}


def held_in(name: str, data: bytes) -> frozenset[int]:
    """Numbers of the rows that an object is of: from sums and features by their sums, else by ids and pictures."""
    folder = name.removeprefix(".partial/").partition("/")[0]
    folder = "sums" if folder == "heads" and ".sums" in name else folder
    return _held_in(folder if folder in ("sums", "prompted", "removed") else "", data)


@lru_cache(maxsize=8192)
def _held_in(folder: str, data: bytes) -> frozenset[int]:
    if not folder:
        return frozenset(row.number for row in ALL if row.sample_id.encode() in data)
    try:
        sums = _sums_in(folder, data)
    except ObjectCorruptError:
        # Half written.
        return frozenset()
    return frozenset(
        number for number in range(ROWS) for sums_H in sums if int(sums_H[number // 10]) >> number % 10 & 1
    )


def _sums_in(folder: str, data: bytes) -> tuple[np.ndarray, ...]:
    """Sums of features over the rows that an object is of, float64 or int64 [H]."""
    if folder == "sums":
        sums = Sums.from_safetensors(data, folder)
        return sums.shared.sums_H, sums.pooled.sums_H
    if folder == "prompted":
        return (PromptedFeatures.from_safetensors(data, folder).features_NH.sum(axis=0),)
    return (RemovedFeatures.from_safetensors(data, folder).shared.features_NH.sum(axis=0),)


class SimulatedMethod:
    """Stands for ``lmeraser.state.pipeline.Pipeline``: features and specialists are functions of the rows alone."""

    def __init__(self, config: StateConfig, dendrogram: Dendrogram) -> None:
        self.config = config
        self.dendrogram = dendrogram
        self.feature_map = SimpleNamespace(width=WIDTH)

    def rows(self, samples: Sequence[Sample]) -> RowTable:
        ordered = sorted(samples, key=lambda sample: sample.sample_id)
        rows = [BY_IMAGE[sample.image] for sample in ordered]
        return RowTable(
            sample_ids=tuple(row.sample_id for row in rows),
            subject_ids=tuple(row.subject_id for row in rows),
            labels_N=np.array([sample.label for sample in ordered], np.int64),
            images=tuple(row.image for row in rows),
            anchors_N=np.array([row.number % ANCHORS for row in rows], np.int32),
            features_NH=self._features(rows),
        )

    def _features(self, rows: Sequence[Row]) -> np.ndarray:
        features_NH = np.zeros((len(rows), WIDTH), np.int16)
        for position, row in enumerate(rows):
            features_NH[position, row.number // 10] = 2 ** (row.number % 10)
            features_NH[position, 2] = 100 * row.version + 7 * row.number
        return features_NH

    def coreset(self, rows: RowTable) -> RowTable:
        return rows.coreset(self.config.seed, self.config.tuning.coreset_rows)

    def tuned_prompt(
        self,
        rows: RowTable,
        report: Callable[[int, int], None] | None = None,
        cancelled: Callable[[], bool] | None = None,  # noqa: ARG002
    ) -> np.ndarray:
        if report is not None:
            report(1, 1)
        # Readable, so that a search for a row finds the prompt that was tuned on it.
        ids = b"".join(name.encode().ljust(8) for name in rows.sample_ids)
        return np.frombuffer(ids, np.float32)

    def embedded(self, images: Sequence[bytes], prompt: np.ndarray) -> np.ndarray:
        features_NH = self._features([BY_IMAGE[image] for image in images])
        # The other columns say which rows they are of.
        features_NH[:, 2] += np.int16(sum(prompt.tobytes()) % 50)
        return features_NH

    def partition(self, anchors_N: np.ndarray, bits_N: np.ndarray) -> Partition:
        return cut(self.dendrogram, anchors_N, bits_N, self.config.partition.max_cluster_rows)


def simulated_pipeline(_store: Any, manifest: Manifest) -> SimulatedMethod:
    """Stands for ``lmeraser.state.pipeline_loading.load_pipeline``."""
    return SimulatedMethod(manifest.config, DENDROGRAM)


@dataclass(frozen=True)
class Ground:
    """A store without rows, its manifest and method."""

    objects: dict[str, bytes]
    manifest: Manifest
    pipeline: SimulatedMethod

    def root(self, rows: Collection[Row]) -> str:
        """The root that a fresh run on these rows gives."""
        return _root(self, frozenset(rows))

    def __hash__(self) -> int:
        return id(self)


@lru_cache(maxsize=20000)
def _root(ground: Ground, rows: frozenset[Row]) -> str:
    samples = [row.sample() for row in rows]
    pipeline: Any = ground.pipeline
    return merkle_root(fresh_leaves(pipeline, ground.manifest, HASH_KEY, samples))


@lru_cache(maxsize=8)
def ground(max_cluster_rows: int, min_tuned_rows: int) -> Ground:
    """A store with limits on the rows of a cluster, and on the rows that a specialist needs."""
    config = StateConfig(
        labels=LABELS,
        partition=PartitionConfig(anchors=ANCHORS, max_cluster_rows=max_cluster_rows, min_tuned_rows=min_tuned_rows),
        tuning=TuningConfig(coreset_rows=2, epochs=1),
        heads=HeadsConfig(head_dim=8),
    )
    parts = {"partition": DENDROGRAM.tensors(), "features": {"projection_FH": np.zeros((1, WIDTH), np.float32)}}
    objects = {f"public/{part}.safetensors": tensors_to_bytes(tensors) for part, tensors in parts.items()}
    objects[PUBLIC_KEY] = public_pem(SIGNING_KEY.public_key())
    store = MemoryStore("memory:", objects, Scheduler(ReplayedChoices(()), 0), lambda *_: None)
    create_manifest(
        store,
        config,
        {part: f"public/{part}.safetensors" for part in parts},
        {part: tensor_digest(tensors) for part, tensors in parts.items()},
        FINGERPRINT,
        LEASE_S,
    )
    store_id = load_manifest(store).store_id.encode()
    objects["store.json"] = objects["store.json"].replace(store_id, b"simulated")
    return Ground(objects, load_manifest(store), SimulatedMethod(config, DENDROGRAM))
