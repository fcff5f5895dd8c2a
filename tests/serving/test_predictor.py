"""One pass per image gives what a pass for each head gives, and no block runs more often than it must.

Legend: N images, P pixels per side, C classes, A anchors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from small_system import System, picture
from torch import nn

from lmeraser.config import ServingConfig
from lmeraser.learning.backbone import VitBackbone
from lmeraser.learning.heads import Head, blend
from lmeraser.state.pipeline import Pipeline
from serving.predictor import Predictor, ScoreRequest, Scores
from serving.routing_table import RoutingTable
from serving.snapshot import Snapshot, load_snapshot

SystemOf = Callable[..., System]
IMAGES = [picture(number) for number in range(300, 320)]
# Blocks of the small Vision Transformer, and how many of them run again for routing.
BLOCKS = 4
REPEATED = {"token": 1, "deep": 0, "pad": 1}

every_variant = pytest.mark.parametrize(
    "variant", ["token", pytest.param("deep", marks=pytest.mark.slow), pytest.param("pad", marks=pytest.mark.slow)]
)
every_backbone = pytest.mark.parametrize(
    "variant",
    ["token", *(pytest.param(variant, marks=pytest.mark.slow) for variant in ("deep", "pad", "conv", "minute"))],
)


class Served:
    """A system's pipeline and snapshot, whose pooled head is the better one."""

    def __init__(self, system: System) -> None:
        self.pipeline = system.pipeline()
        snapshot = load_snapshot(system.store, self.pipeline, system.newest(), system.hash_key)
        self.snapshot = replace(
            snapshot,
            shared_head=replace(snapshot.shared_head, unexplained=0.5),
            pooled_head=replace(snapshot.pooled_head, unexplained=0.4),
        )
        self.images_N3PP = self.pipeline.decode(IMAGES)

    def scores(self, *requests: ScoreRequest, snapshot: Snapshot | None = None, weight: float = 1.0) -> Scores:
        predictor = Predictor(self.pipeline, ServingConfig(specialist_weight=weight))
        return predictor.score(snapshot or self.snapshot, requests or [ScoreRequest(self.images_N3PP)])


def softmax(scores_C: np.ndarray) -> np.ndarray:
    powers_C = np.exp(scores_C - scores_C.max())
    shares_C: np.ndarray = powers_C / powers_C.sum()
    return shares_C


def routed_by_hand(pipeline: Pipeline, image_3PP: np.ndarray) -> int:
    """The nearest anchor, from timm's own intermediate outputs after the first block or stage."""
    pixels_13PP = pipeline.backbone.normalise(torch.from_numpy(image_3PP)[None])
    model: Any = pipeline.backbone.model
    with torch.inference_mode():
        first = model.forward_intermediates(pixels_13PP, indices=[0], intermediates_only=True)[0]
    away_AR = pipeline.anchor_index.anchors_AR - first.mean(dim=(2, 3)).cpu().numpy()
    return int((away_AR.astype(np.float64) ** 2).sum(axis=1).argmin())


def two_passes(pipeline: Pipeline, snapshot: Snapshot, image_3PP: np.ndarray, weight: float) -> np.ndarray:
    """Probabilities of one image from a pass for each head, both in full."""
    place = int(snapshot.routes.specialist_A[routed_by_hand(pipeline, image_3PP)])

    def shares(head: Head, prompt: torch.Tensor | None) -> np.ndarray:
        pixels_13PP = pipeline.backbone.normalise(torch.from_numpy(image_3PP)[None])
        with torch.inference_mode():
            plain = pipeline.backbone.features_of_pixels(pixels_13PP)
            prompted = (
                plain if prompt is None else pipeline.prompt_kind.features(pixels_13PP, prompt[None].to(pixels_13PP))
            )
        features_H = pipeline.feature_map.project(prompted.head_NF.cpu().numpy())[0].astype(float) / 256
        return softmax(features_H @ head.weight_HC + head.bias_C)

    shared_C = shares(snapshot.shared_head, pipeline.public_prompt)
    if place < 0:
        return shared_C
    return (1 - weight) * shared_C + weight * shares(snapshot.pooled_head, snapshot.prompts_K[place])


def assert_answers(served: Served, scores: Scores, weights_N: list[float], snapshot: Snapshot | None = None) -> None:
    for row, weight in enumerate(weights_N):
        part = scores.part(row, row + 1)
        answered_C = blend(part.shared_NC, part.pooled_NC, part.specialist_N, weight, 1.0)[0]
        expected_C = two_passes(served.pipeline, snapshot or served.snapshot, served.images_N3PP[row], weight)
        np.testing.assert_allclose(answered_C, expected_C, atol=2e-3)


@every_backbone
@pytest.mark.parametrize("weight", [1.0, 0.5, 0.0])
def test_an_answer_is_that_of_a_pass_for_each_head(system_of: SystemOf, variant: str, weight: float) -> None:
    served = Served(system_of(variant))
    scores = served.scores(weight=weight)
    assert_answers(served, scores, [weight] * len(IMAGES))
    anchors_N = [routed_by_hand(served.pipeline, image_3PP) for image_3PP in served.images_N3PP]
    assert scores.cluster_N.tolist() == served.snapshot.routes.cluster_A[anchors_N].tolist()
    has_specialist_N = served.snapshot.routes.specialist_A[anchors_N] >= 0
    assert has_specialist_N.any()
    assert np.array_equal(scores.specialist_N, has_specialist_N & (weight > 0))
    assert not scores.skipped_N.any()


def test_in_one_batch_each_request_has_its_own_weight(system_of: SystemOf) -> None:
    served = Served(system_of())
    asked = (None, 0.0, 0.3, 1.0)
    requests = [ScoreRequest(served.images_N3PP[5 * n : 5 * n + 5], weight) for n, weight in enumerate(asked)]
    scores = served.scores(*requests, weight=0.8)
    assert_answers(served, scores, [weight for weight in (0.8, 0.0, 0.3, 1.0) for _ in range(5)])


def test_where_the_shared_head_is_better_it_answers_unless_a_request_gives_a_weight(system_of: SystemOf) -> None:
    served = Served(system_of())
    worse = replace(served.snapshot, pooled_head=replace(served.snapshot.pooled_head, unexplained=0.6))
    equal = replace(served.snapshot, pooled_head=replace(served.snapshot.pooled_head, unexplained=0.5))
    requests = [ScoreRequest(served.images_N3PP[:10]), ScoreRequest(served.images_N3PP[10:], 1.0)]
    specialist_N = served.scores(*requests, snapshot=equal).specialist_N
    assert specialist_N[:10].any() and specialist_N[10:].any()
    scores = served.scores(*requests, snapshot=worse)
    assert_answers(served, scores, [0.0] * 10 + [1.0] * 10, worse)
    assert np.array_equal(scores.skipped_N, specialist_N & (np.arange(len(IMAGES)) < 10))
    assert np.array_equal(scores.specialist_N, specialist_N & (np.arange(len(IMAGES)) >= 10))


def test_without_a_specialist_the_shared_head_answers_everything(system_of: SystemOf) -> None:
    served = Served(system_of())
    commit, anchors = served.snapshot.commit, served.pipeline.dendrogram.anchors
    bare = replace(
        served.snapshot,
        prompts_K=served.snapshot.prompts_K[:0],
        prompt_objects=(),
        routes=RoutingTable.of_clusters(commit.clusters, [], anchors),
    )
    scores = served.scores(snapshot=bare)
    assert_answers(served, scores, [1.0] * len(IMAGES), bare)
    assert (scores.cluster_N >= 0).any() and not scores.specialist_N.any() and not scores.skipped_N.any()


def row_blocks(served: Served, snapshot: Snapshot, weight: float) -> tuple[int, Scores]:
    """How many rows passed each block, over all blocks, to answer the images; and the scores."""
    backbone = served.pipeline.backbone
    assert isinstance(backbone, VitBackbone)
    rows: list[int] = []

    def count(_: nn.Module, inputs: tuple[torch.Tensor, ...], __: torch.Tensor) -> None:
        rows.append(len(inputs[0]))

    blocks: Any = backbone.vit.blocks
    hooks = [block.attn.register_forward_hook(count) for block in blocks]
    scores = served.scores(snapshot=snapshot, weight=weight)
    for hook in hooks:
        hook.remove()
    return sum(rows), scores


@every_variant
def test_an_image_passes_each_block_once_besides_its_routing(system_of: SystemOf, variant: str) -> None:
    served = Served(system_of(variant))
    routing = REPEATED[variant] * len(IMAGES)
    for weight in (1.0, 0.0):
        assert row_blocks(served, served.snapshot, weight)[0] == BLOCKS * len(IMAGES) + routing
    passed, scores = row_blocks(served, served.snapshot, 0.5)
    above = 2 if variant == "deep" else BLOCKS
    assert passed == BLOCKS * len(IMAGES) + routing + above * scores.specialist_N.sum()


@every_variant
def test_where_all_clusters_are_one_nothing_is_routed(system_of: SystemOf, variant: str) -> None:
    served = Served(system_of(variant))
    anchors = served.pipeline.dendrogram.anchors
    root = replace(served.snapshot.commit.clusters[0], anchors=tuple(range(anchors)))
    whole = replace(
        served.snapshot,
        commit=replace(served.snapshot.commit, clusters=(root,)),
        prompts_K=served.snapshot.prompts_K[:1],
        routes=RoutingTable.of_clusters((root,), [root.key], anchors),
    )
    passed, scores = row_blocks(served, whole, 1.0)
    assert passed == BLOCKS * len(IMAGES)
    assert scores.specialist_N.all() and not scores.cluster_N.any()
    assert_answers(served, scores, [1.0] * len(IMAGES), whole)
