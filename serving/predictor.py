"""Scores of a heterogeneous batch: every image with the prompt of its own cluster.

Legend: N images, M images under a prompt, K specialists, P pixels per side, C classes, F raw head features,
H head features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lmeraser.config import ServingConfig
from lmeraser.learning.feature_map import TorchFeatureMap
from lmeraser.learning.heads import Statistics, solve
from lmeraser.state.commit import NO_HEADS, Commit
from lmeraser.state.pipeline import Pipeline
from serving.nearest_anchor import NearestAnchor
from serving.routing_table import RoutingTable
from serving.snapshot import Snapshot

# Images that pass the backbone together on a CPU: of so few, what a block computes stays in the caches (decision 44).
_IMAGES_IN_CACHE = 8
# Up to so many images, every size of a batch is warmed up; beyond, powers of two and the largest.
_EVERY_SIZE = 64


@dataclass(frozen=True)
class ScoreRequest:
    """The images of one request, to be scored in a batch. ``len()`` is the number of images.

    Attributes:
        images_N3PP: uint8.
        specialist_weight: λ; None for the configuration's, or 0 where the pooled head is the worse one.
        generation: for whose backbone they were decoded.
    """

    images_N3PP: np.ndarray
    specialist_weight: float | None = None
    generation: str = ""

    def __len__(self) -> int:
        return len(self.images_N3PP)


@dataclass(frozen=True)
class Scores:
    """Scores of N images from one commit.

    Attributes:
        commit: the commit.
        shared_NC: float64, scores of the shared head; zero where the pooled head answers alone.
        pooled_NC: float64, scores of the pooled head; zero where the shared head answers alone.
        cluster_N: int32, index among the commit's clusters; -1 where there is none.
        specialist_N: bool, whether the cluster's specialist has a share in the answer.
        skipped_N: bool, whether the cluster has a specialist without a share, because the shared head is better.
    """

    commit: Commit
    shared_NC: np.ndarray
    pooled_NC: np.ndarray
    cluster_N: np.ndarray
    specialist_N: np.ndarray
    skipped_N: np.ndarray

    def part(self, start: int, end: int) -> Scores:
        """The images from ``start`` up to ``end``."""
        within = slice(start, end)
        return Scores(
            self.commit,
            self.shared_NC[within],
            self.pooled_NC[within],
            self.cluster_N[within],
            self.specialist_N[within],
            self.skipped_N[within],
        )


@dataclass(frozen=True)
class _Passed:
    """Some images after their passes: nearest anchors, and raw head features of those that each head reads."""

    anchors_N: np.ndarray
    shared_MF: Tensor
    pooled_MF: Tensor


class Predictor:
    """The forward passes of one replica."""

    def __init__(self, pipeline: Pipeline, config: ServingConfig) -> None:
        self._pipeline = pipeline
        self._config = config
        device, public = pipeline.backbone.device, pipeline.public_prompt
        self._public_prompt = None if public is None else public.to(device)
        self._nothing_0F = torch.zeros((0, len(pipeline.feature_map.mean_F)), device=device)
        self._torch_feature_map = TorchFeatureMap(pipeline.feature_map, device)
        self._nearest = NearestAnchor(pipeline.anchor_index, device)

    def score(self, snapshot: Snapshot, requests: Sequence[ScoreRequest]) -> Scores:
        """Score the images of one or more requests in one batch, from one snapshot.

        The first blocks, without a prompt, give routing features, and one search finds all clusters. Then each image
        passes the backbone once for each head that has a share in its answer: with the prompt of its cluster for the
        pooled head, with the public prompt if there is one for the shared head. With λ = 1 or 0 that is one pass. The
        blocks below the one that tokens enter run once for everything. Where all clusters are one, nothing is routed.
        """
        images_N3PP = np.concatenate([request.images_N3PP for request in requests])
        if len(images_N3PP) == 0:
            nothing_N, nothing_NC = np.zeros(0, np.int32), np.zeros((0, len(self._pipeline.config.labels)))
            return Scores(snapshot.commit, nothing_NC, nothing_NC, nothing_N, nothing_N > 0, nothing_N > 0)
        worse = not snapshot.pooled_head.no_worse_than(snapshot.shared_head)
        default = 0.0 if worse else self._config.specialist_weight
        weights = [default if request.specialist_weight is None else request.specialist_weight for request in requests]
        left_out = [worse and request.specialist_weight is None for request in requests]
        counts = [len(request) for request in requests]
        with self._inference():
            return self._scored(
                snapshot, self._on_device(images_N3PP), np.repeat(weights, counts), np.repeat(left_out, counts)
            )

    def warm_up(self) -> None:
        """Answer batches of every size, under prompts and without, from a snapshot of nothing.

        So no request waits for compilation, for kernels that are loaded when a shape is first used, or for the device.
        What a library keeps by thread is kept for the thread that calls this.
        """
        size = self._pipeline.config.backbone.image_px
        snapshot = self._blank_snapshot()
        for images in self._sizes():
            images_N3PP = np.zeros((images, 3, size, size), np.uint8)
            weights = {1.0, self._config.specialist_weight}
            # Under a public prompt, a pass for the shared head has the shapes of one for the pooled head.
            if self._public_prompt is None or images == 1:
                weights.add(0.0)
            for weight in sorted(weights):
                self.score(snapshot, [ScoreRequest(images_N3PP, weight)])

    def _sizes(self) -> list[int]:
        """How many images pass the backbone together."""
        most = self._config.max_batch_images
        if self._pipeline.backbone.device.type == "cpu":
            most = min(most, _IMAGES_IN_CACHE)
        powers = [2**power for power in range(_EVERY_SIZE.bit_length(), most.bit_length()) if 2**power < most]
        return [*range(1, min(most, _EVERY_SIZE) + 1), *powers, *([most] if most > _EVERY_SIZE else [])]

    def _blank_snapshot(self) -> Snapshot:
        """A snapshot in which all anchors have a specialist, and which routes if there are two anchors or more."""
        pipeline = self._pipeline
        anchors = pipeline.dendrogram.anchors
        head = solve(Statistics.zero(pipeline.feature_map.width, len(pipeline.config.labels)))
        return Snapshot(
            commit=Commit((), NO_HEADS, {}),
            prompts_K=torch.zeros((1, *pipeline.prompt_kind.shape), device=pipeline.backbone.device),
            prompt_objects=("",),
            routes=RoutingTable(np.arange(anchors, dtype=np.int32), np.zeros(anchors, np.int32)),
            shared_head=head,
            pooled_head=head,
        )

    def projected(self, head_NF: Tensor) -> np.ndarray:
        """Head features on the grid, int16 [N, H]."""
        return self._torch_feature_map.on_grid(head_NF).cpu().numpy()

    def _scored(self, snapshot: Snapshot, images_N3PP: Tensor, weight_N: np.ndarray, left_out_N: np.ndarray) -> Scores:
        # Anchors go from the device to the CPU and back: there they select the prompts of the pass on the device.
        step = _IMAGES_IN_CACHE if images_N3PP.device.type == "cpu" else len(images_N3PP)
        parts = [
            self._passed(snapshot, images_N3PP[start : start + step], weight_N[start : start + step])
            for start in range(0, len(images_N3PP), step)
        ]
        anchors_N = np.concatenate([part.anchors_N for part in parts])
        place_N = snapshot.routes.specialist_A[anchors_N]
        shared_N, pooled_N = _heads_of(place_N, weight_N)
        shared_NC, pooled_NC = np.zeros((2, len(weight_N), len(self._pipeline.config.labels)))
        score_shared, score_pooled = snapshot.scorings
        on_grid = self._torch_feature_map.on_grid
        shared_NC[shared_N] = score_shared(on_grid(torch.cat([part.shared_MF for part in parts])))
        pooled_NC[pooled_N] = score_pooled(on_grid(torch.cat([part.pooled_MF for part in parts])))
        return Scores(
            commit=snapshot.commit,
            shared_NC=shared_NC,
            pooled_NC=pooled_NC,
            cluster_N=snapshot.routes.cluster_A[anchors_N],
            specialist_N=pooled_N,
            skipped_N=(place_N >= 0) & left_out_N,
        )

    def _passed(self, snapshot: Snapshot, images_N3PP: Tensor, weight_N: np.ndarray) -> _Passed:
        """Route some images, and pass them through the backbone for the heads that have a share in their answers."""
        lower = self._pipeline.prompt_kind.lower(self._pipeline.backbone.normalise(images_N3PP))
        anchors_N = np.zeros(len(weight_N), np.int32) if snapshot.routes.one_cluster else self._nearest(lower.routing())
        place_N = snapshot.routes.specialist_A[anchors_N]
        shared_M, pooled_M = map(np.flatnonzero, _heads_of(place_N, weight_N))
        prompts_M = snapshot.prompts_K[self._index(place_N[pooled_M])]
        if self._public_prompt is None:
            shared_MF = pooled_MF = self._nothing_0F
            if len(shared_M):
                shared_MF = lower.rows(self._index(shared_M)).plain().head_NF
            if len(pooled_M):
                pooled_MF = lower.rows(self._index(pooled_M)).features(prompts_M).head_NF
            return _Passed(anchors_N, shared_MF, pooled_MF)
        if len(shared_M) == 0:
            return _Passed(anchors_N, self._nothing_0F, lower.features(prompts_M).head_NF)
        # The public prompt is one more prompt, so a single pass takes all.
        public_M = self._public_prompt.expand(len(shared_M), *self._public_prompt.shape)
        rows = lower.rows(self._index(np.concatenate([shared_M, pooled_M])))
        head_MF = rows.features(torch.cat([public_M, prompts_M])).head_NF
        return _Passed(anchors_N, head_MF[: len(shared_M)], head_MF[len(shared_M) :])

    @contextmanager
    def _inference(self) -> Iterator[None]:
        device = self._pipeline.backbone.device
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=self._config.bf16):
            yield

    def _on_device(self, images_N3PP: np.ndarray) -> Tensor:
        images, device = torch.from_numpy(images_N3PP), self._pipeline.backbone.device
        # From pinned memory the copy overlaps with what the GPU is doing.
        return images.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else images

    def _index(self, rows_M: np.ndarray) -> Tensor:
        return torch.from_numpy(rows_M).to(self._pipeline.backbone.device)


def _heads_of(place_N: np.ndarray, weight_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether the shared head, and whether the pooled one, has a share in each image's answer, bool [N] each."""
    pooled_N = (place_N >= 0) & (weight_N > 0)
    return ~pooled_N | (weight_N < 1), pooled_N
