"""The public artifacts: everything that is computed from public data, fixed before any private row arrives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from lmeraser.config import StateConfig
from lmeraser.hashing import canonical_json
from lmeraser.state.digests import tensor_digest
from lmeraser.state.fingerprint import accelerator_name, fingerprint
from lmeraser.state.layout import PUBLIC_KEY, PUBLIC_PARTS, RENAMED, public_object
from lmeraser.state.manifest import Manifest, create_manifest, default_lease_s, draft_of, load_part
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


def create_draft(
    store: Store, generation: str, config: StateConfig, artifacts: PublicArtifacts, renamed: Mapping[str, str]
) -> Manifest:
    """Make the folder of a generation that is being made a store of its own; it is one once this returns.

    Args:
        store: the store that the generation will be of.
        generation: from Rebuilds.begin.
        config, artifacts: of the generation.
        renamed: live labels that have another name in it.

    Raises:
        StoreFormatError: when it is a store already.
    """
    draft = draft_of(store, generation)
    draft.put(PUBLIC_KEY, store.get(PUBLIC_KEY))
    draft.put(RENAMED, canonical_json(dict(renamed)))
    return create_store(draft, config, artifacts)


def load_public(store: Store, manifest: Manifest) -> PublicArtifacts:
    """Read the public artifacts, and check their digests.

    Raises:
        ObjectCorruptError: when an artifact does not have its digest.
    """
    parts = {part: load_part(store, manifest, part) for part in manifest.public}
    return PublicArtifacts(**parts, feature_batch=manifest.feature_batch)
