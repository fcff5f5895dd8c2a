"""Small real systems to serve from: a tiny Vision Transformer or conv net, real tuning, a real log."""

from __future__ import annotations

import io
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from actors.checkpoints import opened_history
from actors.coordinator import Coordinator
from actors.incoming import put_rows
from actors.ingests import IngestOutcome
from actors.owners import InProcessOwners
from lmeraser.config import BackboneConfig, HeadsConfig, PartitionConfig, PromptConfig, StateConfig, TuningConfig
from lmeraser.data import Sample
from lmeraser.deletion import DeletionRequest
from lmeraser.hashing import HashKey, canonical_json
from lmeraser.learning.timm_models import timm
from lmeraser.proof.recompute import fresh_leaves
from lmeraser.state.commit import Commit, commits_in
from lmeraser.state.keys import init_keys, load_hash_key, load_signing_key, public_pem
from lmeraser.state.layout import MANIFEST, PUBLIC_KEY
from lmeraser.state.log import Log
from lmeraser.state.manifest import Manifest, load_manifest
from lmeraser.state.merkle import merkle_root
from lmeraser.state.pipeline import Pipeline
from lmeraser.state.pipeline_loading import load_pipeline
from lmeraser.state.public_artifacts import create_store
from lmeraser.state.public_fit import build_public
from lmeraser.store import LocalStore, Store

# "cuda" has every test that builds such a system run on a GPU.
DEVICE: Literal["cpu", "cuda"] = "cuda" if os.environ.get("LMERASER_DEVICE") == "cuda" else "cpu"
LABELS = ("red", "green", "blue")
SIDE = 32
VIT = BackboneConfig("vit_tiny_patch16_224", "trained", SIDE, {"embed_dim": 32, "depth": 4, "num_heads": 2}, DEVICE)
CONV = BackboneConfig("resnet10t", "trained", SIDE, device=DEVICE)
MINUTE = BackboneConfig(
    "vit_tiny_patch16_224", "trained", 16, {"patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}, DEVICE
)
PARTITION = PartitionConfig(anchors=12, max_cluster_rows=24, min_tuned_rows=8)
SMALLEST = {
    "minute": PartitionConfig(anchors=6, max_cluster_rows=5, min_tuned_rows=3),
    # Few clusters of many rows, which are never tuned.
    "coarse": PartitionConfig(anchors=6, max_cluster_rows=300, min_tuned_rows=1000),
    # Clusters that histories of few rows divide and join, and of which most rows are not in the coreset.
    "history": PartitionConfig(anchors=6, max_cluster_rows=10, min_tuned_rows=3),
    # Clusters of which most rows are not in the coreset.
    "coreset": PartitionConfig(anchors=6, max_cluster_rows=40, min_tuned_rows=8),
}
TUNING = TuningConfig(epochs=2, batch_rows=16)
# Of a cluster of five rows, two are not in the coreset.
SMALLEST_TUNING = TuningConfig(coreset_rows=3, epochs=2, batch_rows=2)
TUNINGS = {
    "minute": SMALLEST_TUNING,
    "coarse": SMALLEST_TUNING,
    # A step moves the prompt only if its batch has two rows of a class.
    "history": replace(SMALLEST_TUNING, coreset_rows=6, batch_rows=6),
    "coreset": replace(SMALLEST_TUNING, coreset_rows=9, batch_rows=9),
}
VARIANTS = {
    "minute": (MINUTE, PromptConfig("token", tokens=2, public_epochs=0)),
    "coarse": (MINUTE, PromptConfig("token", tokens=2, public_epochs=0)),
    "history": (MINUTE, PromptConfig("token", tokens=2, public_epochs=0)),
    "coreset": (MINUTE, PromptConfig("token", tokens=2, public_epochs=0)),
    "token": (VIT, PromptConfig("token", tokens=2)),
    "deep": (VIT, PromptConfig("token", tokens=2, depth=2)),
    "pad": (VIT, PromptConfig("pad", pad_px=4)),
    "conv": (CONV, PromptConfig("pad", pad_px=4)),
}

# Copies of a system have the same pipeline: each is loaded once, by what decides it.
_PIPELINES: dict[str, Pipeline] = {}


def picture(number: int) -> bytes:
    """A PNG whose strongest channel is its label, ``number`` modulo 3; brightness gives clusters of several labels."""
    pixels = np.random.default_rng(number).integers(0, 96, (SIDE, SIDE, 3), np.uint8)
    pixels += np.uint8(60 * (number // 3 % 3))
    pixels[:, :, number % 3] += 36
    if number % 15 == 0:
        # A few dark ones, for a cluster that is too small to be tuned.
        pixels //= 6
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def samples(start: int, stop: int) -> list[Sample]:
    """Samples s<number> of subjects u<number>."""
    return [Sample(f"s{number}", f"u{number}", number % 3, picture(number)) for number in range(start, stop)]


def finish(coordinator: Coordinator) -> None:
    """Have it do all of its work."""
    while coordinator.step():
        pass


@dataclass(frozen=True)
class System:
    """A store with its keys, and a coordinator that works on request."""

    store: Store
    keys: Path

    @property
    def manifest(self) -> Manifest:
        return load_manifest(self.store)

    @property
    def hash_key(self) -> HashKey:
        return load_hash_key(self.keys)

    def pipeline(self) -> Pipeline:
        manifest = self.manifest
        decided_by = (asdict(manifest.config), dict(manifest.public_digests), dict(manifest.fingerprint))
        key = json.dumps(decided_by, sort_keys=True)
        if key not in _PIPELINES:
            _PIPELINES[key] = load_pipeline(self.store, manifest)
        return _PIPELINES[key]

    def coordinator(self) -> Coordinator:
        owners = InProcessOwners(self.store, self.manifest, self.hash_key, self.pipeline)
        return Coordinator(self.store, self.manifest, self.hash_key, load_signing_key(self.keys), owners, lease_s=0.0)

    def with_lease(self, lease_s: float) -> System:
        """The same system as if its store had been made with this lease."""
        self.store.put(MANIFEST, canonical_json({**json.loads(self.store.get(MANIFEST)), "lease_s": lease_s}))
        return self

    def ingest(self, rows: list[Sample], tuned: bool = True) -> IngestOutcome:
        coordinator = self.coordinator()
        prefix = coordinator.begin_ingest()
        put_rows(
            self.store, self.hash_key, f"{prefix}rows", self.pipeline().rows(rows), seed=self.pipeline().config.seed
        )
        done = coordinator.ingest(prefix)
        while not coordinator.idle():
            coordinator.step()
            if done.done() and not tuned:
                break
        return done.result(timeout=0)

    def delete(self, *sample_ids: str) -> None:
        coordinator = self.coordinator()
        coordinator.delete(DeletionRequest(sample_ids))
        while not coordinator.idle():
            coordinator.step()

    def coordinator_says(self, deletion_id: str) -> str:
        """The status of a deletion, from the log alone."""
        log, history = opened_history(self.store)
        history.replay(log.advance())
        return history.deletion(deletion_id).status

    def fresh_root(self, rows: list[Sample]) -> str:
        """The root that a fresh run on these rows gives."""
        return merkle_root(fresh_leaves(self.pipeline(), self.manifest, self.hash_key, rows))

    def newest(self) -> Commit:
        return self._commits()[-1]

    def last_that_erased(self) -> int:
        """Number of the newest commit that erased something: once it is waited for, no older one may answer."""
        return max((commit.number for commit in self._commits() if commit.requests), default=0)

    def _commits(self) -> list[Commit]:
        return commits_in(Log(self.store).advance())


def build_system(folder: Path, variant: str, rows: int) -> System:
    backbone, prompt = VARIANTS[variant]
    torch.manual_seed(0)
    options: dict[str, Any] = dict(backbone.model_args)
    model: Any = timm.create_model(backbone.name, num_classes=0, **options)
    if variant != "conv":
        model.set_input_size(img_size=(backbone.image_px, backbone.image_px))
    config = StateConfig(
        labels=LABELS,
        backbone=backbone,
        partition=SMALLEST.get(variant, PARTITION),
        prompt=prompt,
        tuning=TUNINGS.get(variant, TUNING),
        heads=HeadsConfig(head_dim=16 if variant in SMALLEST else 32),
    )
    store = LocalStore(folder / "store")
    create_store(store, config, build_public(config, model.state_dict(), samples(1000, 1096)))
    init_keys(folder / "keys")
    store.put(PUBLIC_KEY, public_pem(load_signing_key(folder / "keys").public_key()))
    system = System(store, folder / "keys")
    if rows:
        system.ingest(samples(0, rows))
    return system
