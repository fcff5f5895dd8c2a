"""A batch of images over random prompt clusters: what a replica needs to answer it, with nothing trained.

DeiT-Tiny at 224 px; prompts, heads and images are drawn at random, because seconds do not depend on them, and so are
the weights where no file of them is given.

Legend: N images, K clusters, P pixels per side, A anchors, R routing features, F raw head features, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.lib.settings import Device
from lmeraser.config import BackboneConfig, PromptConfig, StateConfig
from lmeraser.learning.anchors import AnchorIndex
from lmeraser.learning.backbone import create_model
from lmeraser.learning.feature_map import FeatureMap
from lmeraser.learning.heads import Head
from lmeraser.learning.partition import Dendrogram
from lmeraser.learning.prompts import prompt_kind
from lmeraser.learning.weights import read_weights
from lmeraser.state.cluster_entry import ClusterEntry
from lmeraser.state.commit import NO_HEADS, Commit
from lmeraser.state.pipeline import Pipeline, extract_routed
from lmeraser.state.pipeline_loading import open_routed
from serving.predictor import ScoreRequest
from serving.routing_table import RoutingTable
from serving.snapshot import Snapshot

IMAGES, IMAGE_PX, CLASSES, ANCHORS = 16, 224, 43, 1024
_ROWS_OF_A_CLUSTER = 200


@dataclass(frozen=True)
class ClusterBatch:
    """A batch with the pipeline of one prompt kind."""

    pipeline: Pipeline
    images_N3PP: np.ndarray

    @property
    def requests(self) -> list[ScoreRequest]:
        """One request that leaves λ to the service: of random heads, none is worse than the other."""
        return [ScoreRequest(self.images_N3PP)]

    def snapshot(self, clusters: int) -> Snapshot:
        """A snapshot of K random prompts; images are spread evenly over the clusters, at most one each if K ≥ N."""
        generator = np.random.default_rng(clusters)
        # Image i is nearest to anchor i; the anchors that no image is nearest to are dealt out in turn.
        step = max(1, clusters // IMAGES)
        cluster_A = [n * step if clusters >= IMAGES else n * clusters // IMAGES for n in range(IMAGES)]
        cluster_A += [anchor % clusters for anchor in range(IMAGES, ANCHORS)]
        keys = [f"{number:064x}" for number in range(clusters)]
        entries = tuple(
            ClusterEntry(
                key,
                tuple(np.flatnonzero(np.array(cluster_A) == number).tolist()),
                "",
                _ROWS_OF_A_CLUSTER,
                (),
                "leaf",
                "leaf",
                "leaf",
            )
            for number, key in enumerate(keys)
        )
        shape = (clusters, *self.pipeline.prompt_kind.shape)
        return Snapshot(
            commit=Commit(entries, NO_HEADS, {}),
            prompts_K=torch.from_numpy(generator.normal(0, 0.02, shape).astype(np.float32)).to(
                self.pipeline.backbone.device
            ),
            prompt_objects=tuple(keys),
            routes=RoutingTable.of_clusters(entries, keys, ANCHORS),
            shared_head=_random_head(generator),
            pooled_head=_random_head(generator),
        )


def random_batch(prompt: PromptConfig, device: Device = "cpu", weights: Path | None = None) -> ClusterBatch:
    """A batch whose first anchors are the images' own routing features.

    Args:
        prompt: of the pipeline.
        device: where the backbone is.
        weights: a file with those of the backbone; random when absent.
    """
    generator = np.random.default_rng(0)
    torch.manual_seed(0)
    config = StateConfig(
        labels=tuple(f"class {number}" for number in range(CLASSES)),
        backbone=BackboneConfig(image_px=IMAGE_PX, device=device),
        prompt=prompt,
    )
    state = None if weights is None else read_weights(weights)
    backbone = open_routed(config, config.backbone, state or create_model(config.backbone).state_dict())
    images_N3PP = generator.integers(0, 256, (IMAGES, 3, IMAGE_PX, IMAGE_PX), np.uint8)
    kind = prompt_kind(config.prompt, backbone)
    routing_NR, head_NF = extract_routed(backbone, images_N3PP, IMAGES, kind)
    elsewhere_AR = 100 + generator.normal(0, 1, (ANCHORS - IMAGES, routing_NR.shape[1])).astype(np.float32)
    anchors_AR = np.concatenate([routing_NR, elsewhere_AR])
    pipeline = Pipeline(
        config=config,
        backbone=backbone,
        prompt_kind=kind,
        anchor_index=AnchorIndex(anchors_AR),
        dendrogram=Dendrogram(np.zeros((ANCHORS - 1, 2), np.int32)),
        feature_map=FeatureMap(
            head_NF.mean(axis=0, dtype=np.float64), generator.normal(0, 1, (head_NF.shape[1], config.heads.head_dim))
        ),
        feature_batch=IMAGES,
        public_prompt=kind.start(config.seed),
    )
    return ClusterBatch(pipeline, images_N3PP)


def _random_head(generator: np.random.Generator) -> Head:
    """A head of the size of a solved one."""
    head_dim = StateConfig(labels=("a", "b")).heads.head_dim
    return Head(generator.normal(0, 0.01, (head_dim, CLASSES)), generator.normal(0, 0.01, CLASSES), 1.0, 1.0)
