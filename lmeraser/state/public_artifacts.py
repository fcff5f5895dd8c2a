"""The public artifacts: all that the method takes from public data, fixed before any private row comes.

Legend: N public rows, F raw head features, R routing features, A anchors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from lmeraser.config import BackboneConfig, StateConfig
from lmeraser.data import Sample, decode_image, sample_chunks
from lmeraser.errors import BackboneError, DataError
from lmeraser.learning.backbone import Backbone, open_backbone
from lmeraser.learning.feature_map import FeatureMap
from lmeraser.learning.numerics import deterministic
from lmeraser.learning.partition import AnchorIndex, Dendrogram, fit_anchors
from lmeraser.learning.prompts import prompt_kind
from lmeraser.learning.public_prompt import learn_public_prompt
from lmeraser.learning.weights import weights_of
from lmeraser.state.digests import tensor_digest
from lmeraser.state.fingerprint import check_fingerprint, fingerprint
from lmeraser.state.layout import public_object
from lmeraser.state.manifest import Manifest, create_manifest, default_lease_s, load_part
from lmeraser.state.pipeline import Pipeline, extract
from lmeraser.state.tensors import tensors_from_bytes, tensors_to_bytes
from lmeraser.store import Store

FEATURE_BATCH = 32
PUBLIC_CHUNK = 256
Tensors = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class PublicArtifacts:
    """Tensors of the three parts.

    Attributes:
        backbone: weights, without a classifier.
        partition: anchors and dendrogram.
        features: standardisation and projection of head features.
        feature_batch: rows in one batch of the feature extraction.
        prompt: the public prompt; empty where there is none.
    """

    backbone: Tensors
    partition: Tensors
    features: Tensors
    feature_batch: int
    prompt: Tensors = field(default_factory=dict)


def build_public(
    config: StateConfig,
    state: Mapping[str, torch.Tensor] | None,
    samples: Iterable[Sample],
    report: Callable[[int], None] | None = None,
) -> PublicArtifacts:
    """Anchors, dendrogram and projection from public rows, under a frozen backbone; all in this process.

    Args:
        config: what decides the state.
        state: the backbone's weights, where ``backbone.weights`` is "trained".
        samples: public rows.
        report: called with the number of rows done.

    Raises:
        BackboneError: when the backbone cannot be opened, or cannot carry the prompt.
        DataError: when there are fewer public rows than anchors, or one cannot be decoded.
    """
    backbone = open_routed(config, config.backbone, state)
    rows = list(samples)
    public_prompt = learn_public_prompt(backbone, config, rows)
    parts: list[PublicFeatures] = []
    for chunk in sample_chunks(rows, PUBLIC_CHUNK):
        batch = parts[0].feature_batch if parts else None
        parts.append(public_features(config, backbone, public_prompt, chunk, batch))
        if report is not None:
            report(sum(len(part.routing_NR) for part in parts))
    return fit_public(config, backbone, public_prompt, parts)


@dataclass(frozen=True)
class PublicFeatures:
    """What some public rows give.

    Attributes:
        routing_NR: float32, by which rows find their anchor.
        head_NF: float32, raw head features.
        feature_batch: rows in one batch of the extraction.
    """

    routing_NR: np.ndarray
    head_NF: np.ndarray
    feature_batch: int


def public_features(
    config: StateConfig,
    backbone: Backbone,
    public_prompt: torch.Tensor | None,
    samples: Sequence[Sample],
    feature_batch: int | None = None,
) -> PublicFeatures:
    """Features of public rows, with the public prompt; the batch is found by a self-check where it is not given.

    Raises:
        UndecodableImageError: when an image cannot be decoded.
    """
    images_N3PP = np.stack([decode_image(sample.image, backbone.image_px) for sample in samples])
    batch = feature_batch or _neighbour_free_batch(backbone, images_N3PP)
    kind = prompt_kind(config.prompt, backbone)
    return PublicFeatures(*extract(backbone, images_N3PP, batch, kind, public_prompt), batch)


def check_public_rows(config: StateConfig, rows: int) -> None:
    """Check that there are enough public rows. Raises DataError when there are fewer than anchors."""
    if rows < config.partition.anchors:
        raise DataError(
            f"there are {rows} public rows for partition.anchors {config.partition.anchors}: "
            "give more public rows or fewer anchors"
        )


def fit_public(
    config: StateConfig, backbone: Backbone, public_prompt: torch.Tensor | None, parts: Sequence[PublicFeatures]
) -> PublicArtifacts:
    """The public artifacts from the features of all public rows, in the order of the rows.

    Raises:
        BackboneError: when the backbone cannot carry the prompt.
        DataError: when there are fewer rows than anchors.
    """
    prompt_kind(config.prompt, backbone)
    check_public_rows(config, sum(len(part.routing_NR) for part in parts))
    routing_NR = np.concatenate([part.routing_NR for part in parts])
    head_NF = np.concatenate([part.head_NF for part in parts])
    with deterministic():
        anchors_AR = fit_anchors(routing_NR, config.partition.anchors, config.seed)
        dendrogram = Dendrogram.fit(anchors_AR)
        feature_map = FeatureMap.fit(head_NF, config.heads.head_dim)
    return PublicArtifacts(
        backbone=_backbone_tensors(backbone),
        partition={"anchors_AR": anchors_AR, **dendrogram.tensors()},
        features=feature_map.tensors(),
        feature_batch=min(part.feature_batch for part in parts),
        prompt={} if public_prompt is None else {"public": public_prompt.numpy()},
    )


def backbone_digest(backbone: Backbone) -> str:
    """SHA-256 of the weights, in hexadecimal; the backbone's digest in a store that is made from them."""
    return tensor_digest(_backbone_tensors(backbone))


def _backbone_tensors(backbone: Backbone) -> Tensors:
    return tensors_from_bytes(weights_of(backbone.model.state_dict()), "the backbone")


def create_store(
    store: Store, config: StateConfig, artifacts: PublicArtifacts, lease_s: float | None = None
) -> Manifest:
    """Write the public artifacts, and make the store.

    Args:
        store: where it is to lie.
        config: what decides the state.
        artifacts: from the public rows.
        lease_s: how long replicas may answer unseen; that of a folder or of a bucket when absent.

    Raises:
        StoreFormatError: when there is a store already.
    """
    names: dict[str, str] = {}
    digests: dict[str, str] = {}
    for part in ("backbone", "partition", "features", "prompt"):
        tensors: Tensors = getattr(artifacts, part)
        if not tensors:
            continue
        digests[part] = tensor_digest(tensors)
        names[part] = public_object(part, digests[part])
        store.put(names[part], tensors_to_bytes(tensors))
    numerics = fingerprint(artifacts.feature_batch, accelerator_name(config.backbone))
    lease_s = default_lease_s(store) if lease_s is None else lease_s
    return create_manifest(store, config, names, digests, numerics, lease_s)


def load_pipeline(store: Store, manifest: Manifest) -> Pipeline:
    """The method over the store's public artifacts.

    Raises:
        FingerprintError: when the bits may come out otherwise here.
        ObjectCorruptError: when an artifact does not have its digest.
    """
    here = fingerprint(manifest.feature_batch, accelerator_name(manifest.config.backbone))
    check_fingerprint(manifest.fingerprint, here)
    return open_pipeline(manifest.config, load_public(store, manifest))


def load_public(store: Store, manifest: Manifest) -> PublicArtifacts:
    """Read the public artifacts and check their digests.

    Raises:
        ObjectCorruptError: when an artifact does not have its digest.
    """
    parts = {part: load_part(store, manifest, part) for part in manifest.public}
    return PublicArtifacts(**parts, feature_batch=manifest.feature_batch)


def open_pipeline(config: StateConfig, artifacts: PublicArtifacts) -> Pipeline:
    """The method over these public artifacts."""
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
    """The backbone, with the features that partition and heads ask for. Raises BackboneError."""
    partition = config.partition
    return open_backbone(backbone, state, partition.routing_block, partition.routing_pool, config.heads.cells)


def accelerator_name(config: BackboneConfig) -> str:
    """The GPU's name where rows go through one; empty on the CPU.

    Raises:
        BackboneError: when the configuration asks for a GPU and this process has none.
    """
    if config.device == "cpu":
        return ""
    if not torch.cuda.is_available():
        raise BackboneError("backbone.device is cuda, but this process has no GPU")
    return torch.cuda.get_device_name()


def _neighbour_free_batch(backbone: Backbone, images_N3PP: np.ndarray) -> int:
    """The batch in which a row's features do not hang on the rows beside it.

    A CPU keeps that promise at every size; where a device breaks it, rows go through one by one.
    """
    straight = extract(backbone, images_N3PP[:FEATURE_BATCH], FEATURE_BATCH)
    turned = extract(backbone, images_N3PP[:FEATURE_BATCH][::-1].copy(), FEATURE_BATCH)
    alone = extract(backbone, images_N3PP[:1], FEATURE_BATCH)
    same = all(
        np.array_equal(one, other[::-1]) and np.array_equal(one[:1], single)
        for one, other, single in zip(straight, turned, alone, strict=True)
    )
    return FEATURE_BATCH if same else 1
