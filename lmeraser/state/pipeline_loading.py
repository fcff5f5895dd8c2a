"""Opens the pipeline of a store, or of public artifacts that are not stored yet."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from lmeraser.config import BackboneConfig, StateConfig
from lmeraser.learning.anchors import AnchorIndex
from lmeraser.learning.backbone import Backbone, open_backbone
from lmeraser.learning.feature_map import FeatureMap
from lmeraser.learning.partition import Dendrogram
from lmeraser.learning.prompts import prompt_kind
from lmeraser.state.fingerprint import accelerator_name, check_fingerprint, fingerprint
from lmeraser.state.manifest import Manifest
from lmeraser.state.pipeline import Pipeline
from lmeraser.state.public_artifacts import PublicArtifacts, load_public
from lmeraser.store import Store


def load_pipeline(store: Store, manifest: Manifest) -> Pipeline:
    """The pipeline of a store.

    Raises:
        FingerprintError: when the numerics of this process may give other bits.
        ObjectCorruptError: when an artifact does not have its digest.
    """
    here = fingerprint(manifest.feature_batch, accelerator_name(manifest.config.backbone))
    check_fingerprint(manifest.fingerprint, here)
    return open_pipeline(manifest.config, load_public(store, manifest))


def open_pipeline(config: StateConfig, artifacts: PublicArtifacts) -> Pipeline:
    """The pipeline over these public artifacts. Raises BackboneError."""
    state = {name: torch.from_numpy(array) for name, array in artifacts.backbone.items()}
    backbone = open_routed(config, config.backbone, state)
    return Pipeline(
        config=config,
        backbone=backbone,
        prompt_kind=prompt_kind(config.prompt, backbone),
        anchor_index=AnchorIndex(artifacts.partition["anchors_AR"]),
        dendrogram=Dendrogram.from_tensors(artifacts.partition),
        feature_map=FeatureMap.from_tensors(artifacts.features),
        feature_batch=artifacts.feature_batch,
        public_prompt=torch.from_numpy(artifacts.prompt["public"]) if artifacts.prompt else None,
    )


def open_routed(config: StateConfig, backbone: BackboneConfig, state: Mapping[str, torch.Tensor] | None) -> Backbone:
    """The backbone, with the routing and head features that the configuration requires. Raises BackboneError."""
    partition = config.partition
    return open_backbone(backbone, state, partition.routing_block, partition.routing_pool, config.heads.cells)
