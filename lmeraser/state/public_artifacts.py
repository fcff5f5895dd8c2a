"""The public artifacts: everything that is computed from public data, fixed before any private row arrives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from lmeraser.config import StateConfig
from lmeraser.state.digests import tensor_digest
from lmeraser.state.fingerprint import accelerator_name, fingerprint
from lmeraser.state.layout import PUBLIC_PARTS, public_object
from lmeraser.state.manifest import Manifest, create_manifest, default_lease_s, load_part
from lmeraser.state.tensors import tensors_to_bytes
from lmeraser.store import Store

Tensors = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class PublicArtifacts:
    """Tensors by part.

    Attributes:
        backbone: weights, without those of a classifier.
        partition: anchors and dendrogram.
        features: standardisation and projection of head features.
        feature_batch: rows in one batch of the feature extraction.
        prompt: the public prompt; empty if there is none.
    """

    backbone: Tensors
    partition: Tensors
    features: Tensors
    feature_batch: int
    prompt: Tensors = field(default_factory=dict)


def create_store(
    store: Store, config: StateConfig, artifacts: PublicArtifacts, lease_s: float | None = None
) -> Manifest:
    """Write the public artifacts, and create the store.

    Args:
        store: where to create it.
        config: the part of the configuration that determines the state.
        artifacts: from the public rows.
        lease_s: see :class:`Manifest`; None for the default of a folder or of a bucket.

    Raises:
        StoreFormatError: when there is a store already.
    """
    names: dict[str, str] = {}
    digests: dict[str, str] = {}
    for part in PUBLIC_PARTS:
        tensors: Tensors = getattr(artifacts, part)
        if not tensors:
            continue
        digests[part] = tensor_digest(tensors)
        names[part] = public_object(part, digests[part])
        store.put(names[part], tensors_to_bytes(tensors))
    numerics = fingerprint(artifacts.feature_batch, accelerator_name(config.backbone))
    lease_s = default_lease_s(store) if lease_s is None else lease_s
    return create_manifest(store, config, names, digests, numerics, lease_s)


def load_public(store: Store, manifest: Manifest) -> PublicArtifacts:
    """Read the public artifacts, and check their digests.

    Raises:
        ObjectCorruptError: when an artifact does not have its digest.
    """
    parts = {part: load_part(store, manifest, part) for part in manifest.public}
    return PublicArtifacts(**parts, feature_batch=manifest.feature_batch)
