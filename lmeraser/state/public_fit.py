"""Makes the public artifacts: extracts features of public rows, and fits anchors, dendrogram and projection to them.

Legend: N public rows, F raw head features, R routing features, A anchors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lmeraser.config import StateConfig
from lmeraser.data import Sample, decode_image, sample_chunks
from lmeraser.errors import DataError
from lmeraser.learning.anchors import fit_anchors
from lmeraser.learning.backbone import Backbone
from lmeraser.learning.feature_map import FeatureMap
from lmeraser.learning.moments import FeatureGrid, Moments
from lmeraser.learning.numerics import deterministic
from lmeraser.learning.partition import Dendrogram
from lmeraser.learning.prompts import PromptKind, prompt_kind
from lmeraser.learning.public_prompt import learn_public_prompt
from lmeraser.learning.weights import weights_of
from lmeraser.state.digests import tensor_digest
from lmeraser.state.pipeline import extract_routed
from lmeraser.state.pipeline_loading import open_routed
from lmeraser.state.public_artifacts import PublicArtifacts, Tensors
from lmeraser.state.public_draw import PublicDraw, row_hash
from lmeraser.state.tensors import tensors_from_bytes

FEATURE_BATCH = 32
PUBLIC_CHUNK = 256


def build_public(
    config: StateConfig,
    state: Mapping[str, torch.Tensor] | None,
    samples: Iterable[Sample],
    report: Callable[[int], None] | None = None,
) -> PublicArtifacts:
    """The public artifacts from public rows and a frozen backbone, all in this process.

    Args:
        config: the part of the configuration that determines the state.
        state: the backbone's weights, if ``backbone.weights`` is "trained".
        samples: public rows.
        report: called with the number of rows that are done.

    Raises:
        BackboneError: when the backbone cannot be opened, or cannot take the prompt.
        DataError: when there are fewer public rows than anchors, or one cannot be decoded.
    """
    backbone = open_routed(config, config.backbone, state)
    rows = list(samples)
    draw = PublicDraw.of(config, rows)
    check_public_rows(config, draw.rows)
    public_prompt = learn_public_prompt(backbone, config, rows)
    chunks = sample_chunks(rows, PUBLIC_CHUNK)
    if draw.is_whole:
        parts: list[PublicFeatures] = []
        for chunk in chunks:
            batch = parts[0].feature_batch if parts else None
            parts.append(public_features(config, backbone, public_prompt, chunk, batch))
            if report is not None:
                report(sum(len(part.routing_NR) for part in parts))
        return fit_public(config, backbone, public_prompt, parts)
    grid, batch = grid_of(config, backbone, public_prompt, draw)
    moments, drawn = Moments(grid), []
    for chunk in chunks:
        features = public_features(config, backbone, public_prompt, chunk, batch)
        moments.add(features.head_NF)
        drawn.append(drawn_rows(config, draw, chunk, features))
        if report is not None:
            report(moments.rows)
    return fit_public_moments(config, backbone, public_prompt, moments, drawn, batch)


@dataclass(frozen=True)
class PublicFeatures:
    """Features of some public rows.

    Attributes:
        routing_NR: float32, compared with the anchors.
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
    """Routing features of public rows, and their head features under the public prompt.

    Args:
        config: the part of the configuration that determines the state.
        backbone: with routing and head features.
        public_prompt: None where the store has none.
        samples: public rows.
        feature_batch: rows in one batch; found by a self-check when None.

    Raises:
        UndecodableImageError: when an image cannot be decoded.
    """
    images_N3PP = np.stack([decode_image(sample.image, backbone.image_px) for sample in samples])
    kind = prompt_kind(config.prompt, backbone)
    batch = feature_batch or _neighbour_free_batch(backbone, images_N3PP, kind)
    return PublicFeatures(*extract_routed(backbone, images_N3PP, batch, kind, public_prompt), batch)


def check_public_rows(config: StateConfig, rows: int) -> None:
    """Check that there are enough public rows. Raises DataError when there are fewer than anchors."""
    if rows < config.partition.anchors:
        raise DataError(
            f"there are {rows} public rows for partition.anchors {config.partition.anchors}: "
            "give more public rows or fewer anchors"
        )


def grid_of(
    config: StateConfig, backbone: Backbone, public_prompt: torch.Tensor | None, draw: PublicDraw
) -> tuple[FeatureGrid, int]:
    """The grid on which the features of many public rows are summed, and the rows in one batch of the extraction."""
    features = public_features(config, backbone, public_prompt, draw.grid_samples)
    with deterministic():
        return FeatureGrid.of(features.head_NF), features.feature_batch


@dataclass(frozen=True)
class DrawnRows:
    """Routing features of some of the rows that anchors are fitted to.

    Attributes:
        hashes_N: uint64, by which they were drawn.
        routing_NR: float32.
    """

    hashes_N: np.ndarray
    routing_NR: np.ndarray


def drawn_rows(config: StateConfig, draw: PublicDraw, samples: Sequence[Sample], features: PublicFeatures) -> DrawnRows:
    """Those of some public rows that are drawn."""
    hashes_N = np.array([row_hash(config, sample) for sample in samples], np.uint64)
    drawn_N = hashes_N <= np.uint64(draw.highest)
    return DrawnRows(hashes_N[drawn_N], features.routing_NR[drawn_N])


def fit_public(
    config: StateConfig, backbone: Backbone, public_prompt: torch.Tensor | None, parts: Sequence[PublicFeatures]
) -> PublicArtifacts:
    """Fit anchors, dendrogram and projection to the features of all public rows, in the order of the rows.

    Raises:
        BackboneError: when the backbone cannot take the prompt.
        DataError: when there are fewer rows than anchors.
    """
    routing_NR = np.concatenate([part.routing_NR for part in parts])
    head_NF = np.concatenate([part.head_NF for part in parts])
    with deterministic():
        feature_map = FeatureMap.fit(head_NF, config.heads.head_dim)
    batch = min(part.feature_batch for part in parts)
    return _artifacts(config, backbone, public_prompt, routing_NR, feature_map, batch)


def fit_public_moments(
    config: StateConfig,
    backbone: Backbone,
    public_prompt: torch.Tensor | None,
    moments: Moments,
    drawn: Sequence[DrawnRows],
    feature_batch: int,
) -> PublicArtifacts:
    """The same where there are more rows than features are kept of; the order of the rows does not matter.

    Args:
        config: the part of the configuration that determines the state.
        backbone: with routing and head features.
        public_prompt: None where the store has none.
        moments: of the head features of all rows.
        drawn: all drawn rows, in any order.
        feature_batch: rows in one batch of the extraction.
    """
    in_order_N = np.argsort(np.concatenate([part.hashes_N for part in drawn]), kind="stable")
    routing_NR = np.concatenate([part.routing_NR for part in drawn])[in_order_N]
    with deterministic():
        feature_map = FeatureMap.of_moments(moments, config.heads.head_dim)
    return _artifacts(config, backbone, public_prompt, routing_NR, feature_map, feature_batch)


def _artifacts(
    config: StateConfig,
    backbone: Backbone,
    public_prompt: torch.Tensor | None,
    routing_NR: np.ndarray,
    feature_map: FeatureMap,
    feature_batch: int,
) -> PublicArtifacts:
    with deterministic():
        anchors_AR = fit_anchors(routing_NR, config.partition.anchors, config.seed)
        dendrogram = Dendrogram.fit(anchors_AR)
    return PublicArtifacts(
        backbone=_backbone_tensors(backbone),
        partition={"anchors_AR": anchors_AR, **dendrogram.tensors()},
        features=feature_map.tensors(),
        feature_batch=feature_batch,
        prompt={} if public_prompt is None else {"public": public_prompt.numpy()},
    )


def backbone_digest(backbone: Backbone) -> str:
    """SHA-256 of the weights as hex digits: the backbone's digest in a store that is created with them."""
    return tensor_digest(_backbone_tensors(backbone))


def _backbone_tensors(backbone: Backbone) -> Tensors:
    return tensors_from_bytes(weights_of(backbone.model.state_dict()), "the backbone")


def _neighbour_free_batch(backbone: Backbone, images_N3PP: np.ndarray, kind: PromptKind) -> int:
    """The largest batch size at which a row's features do not depend on its batch mates.

    On a CPU that is every size. Where a device breaks the rule, rows are extracted one by one (decision 13).
    """
    images_B3PP = images_N3PP[:FEATURE_BATCH]
    in_order, reversed_order, alone = (
        extract_routed(backbone, some_N3PP, FEATURE_BATCH, kind)
        for some_N3PP in (images_B3PP, images_B3PP[::-1].copy(), images_B3PP[:1])
    )
    same = all(
        np.array_equal(forward, backward[::-1]) and np.array_equal(forward[:1], single)
        for forward, backward, single in zip(in_order, reversed_order, alone, strict=True)
    )
    return FEATURE_BATCH if same else 1
