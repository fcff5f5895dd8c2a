"""Scores of a heterogeneous batch: every image with the prompt of its own cluster.

Legend: N images, M images whose cluster has a specialist, K specialists, P pixels per side, C classes, D width,
H head features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lmeraser.config import ServingConfig
from lmeraser.learning.backbone import Features
from lmeraser.learning.feature_map import TorchFeatureMap
from lmeraser.learning.heads import probabilities
from lmeraser.state.commit import Commit
from lmeraser.state.pipeline import Pipeline
from serving.snapshot import Snapshot

PromptedPass = Callable[[np.ndarray, Tensor], Features]


@dataclass(frozen=True)
class ScoreRequest:
    """The images of one request, to be scored in a batch. ``len()`` is the number of images.

    Attributes:
        images_N3PP: uint8.
        with_specialists: whether the request gives λ, so that specialists are used whichever head is better.
    """

    images_N3PP: np.ndarray
    with_specialists: bool = False

    def __len__(self) -> int:
        return len(self.images_N3PP)


@dataclass(frozen=True)
class Scores:
    """Scores of N images from one commit.

    Attributes:
        commit: the commit.
        shared_NC: float64, scores of the shared head.
        pooled_NC: float64, scores of the pooled head; zero where no specialist was used.
        cluster_N: int32, index among the commit's clusters; -1 where there is none.
        specialist_N: bool, whether the cluster's specialist was used.
        skipped_N: bool, whether the cluster has a specialist that was not used, because the shared head was confident
            or is the better head.
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


class Predictor:
    """The forward passes of one replica."""

    def __init__(self, pipeline: Pipeline, config: ServingConfig) -> None:
        self._pipeline = pipeline
        self._config = config
        self._torch_feature_map = TorchFeatureMap(pipeline.feature_map, pipeline.backbone.device)

    def score(self, snapshot: Snapshot, requests: Sequence[ScoreRequest]) -> Scores:
        """Score the images of one or more requests in one batch, from one snapshot.

        The first pass, with the public prompt if there is one, gives routing features and shared scores; one search
        finds all clusters; the second pass takes the images that have a specialist, each with the prompt of its own
        cluster. Both passes share the blocks below the one that tokens enter. Images about which the shared head is
        confident enough take no second pass. If cross-validation finds the pooled head no better than the shared one,
        only images of requests that give λ take it.
        """
        images_N3PP = np.concatenate([request.images_N3PP for request in requests])
        if len(images_N3PP) == 0:
            nothing_N, nothing_NC = np.zeros(0, np.int32), np.zeros((0, len(self._pipeline.config.labels)))
            return Scores(snapshot.commit, nothing_NC, nothing_NC, nothing_N, nothing_N > 0, nothing_N > 0)
        with self._inference():
            better = snapshot.pooled_head.better_than(snapshot.shared_head)
            needed_N = np.repeat(
                [better or request.with_specialists for request in requests], [len(request) for request in requests]
            )
            return self._scored(snapshot, self._on_device(images_N3PP), needed_N)

    def warm_up(self) -> None:
        """Run both passes once, so that no request waits for compilation or device initialisation."""
        backbone, kind = self._pipeline.backbone, self._pipeline.prompt_kind
        size = self._pipeline.config.backbone.image_px
        with self._inference():
            # Compilers treat a batch of one image as a case of its own.
            for images in (1, 2):
                images_N3PP = self._on_device(np.zeros((images, 3, size, size), np.uint8))
                plain, prompted = self._passes(backbone.normalise(images_N3PP))
                self._pipeline.anchor_index.nearest(plain.routing_NR.float().cpu().numpy())
                self.projected(plain)
                prompts_M = torch.zeros((images, *kind.shape), device=backbone.device)
                self.projected(prompted(np.arange(images), prompts_M))

    def projected(self, features: Features) -> np.ndarray:
        """Head features on the grid, int16 [N, H]."""
        return self._torch_feature_map.on_grid(features.head_NF).cpu().numpy()

    def _scored(self, snapshot: Snapshot, images_N3PP: Tensor, needed_N: np.ndarray) -> Scores:
        # Features go from the device to the CPU and back: FAISS searches on the CPU, its result selects the prompts of
        # the second pass on the device, and the heads score int16 features on the grid in float64 on the CPU.
        pixels_N3PP = self._pipeline.backbone.normalise(images_N3PP)
        plain, prompted = self._passes(pixels_N3PP)
        anchors_N = self._pipeline.anchor_index.nearest(plain.routing_NR.float().cpu().numpy())
        place_N = snapshot.routes.specialist_A[anchors_N]
        shared_NC = snapshot.shared_head.scores(self.projected(plain))
        pooled_NC = np.zeros_like(shared_NC)
        specialist_N = (place_N >= 0) & needed_N & ~self._sure(shared_NC)
        places_M = np.flatnonzero(specialist_N)
        if len(places_M):
            features = prompted(places_M, snapshot.prompts_K[self._index(place_N[places_M])])
            pooled_NC[places_M] = snapshot.pooled_head.scores(self.projected(features))
        return Scores(
            commit=snapshot.commit,
            shared_NC=shared_NC,
            pooled_NC=pooled_NC,
            cluster_N=snapshot.routes.cluster_A[anchors_N],
            specialist_N=specialist_N,
            skipped_N=(place_N >= 0) & ~specialist_N,
        )

    def _sure(self, shared_NC: np.ndarray) -> np.ndarray:
        if self._config.skip_above is None:
            return np.zeros(len(shared_NC), bool)
        sure_N: np.ndarray = probabilities(shared_NC, self._config.temperature).max(axis=1) >= self._config.skip_above
        return sure_N

    def _passes(self, pixels_N3PP: Tensor) -> tuple[Features, PromptedPass]:
        """Features with the public prompt, and a function for features of some of the images with other prompts."""
        kind, backbone = self._pipeline.prompt_kind, self._pipeline.backbone
        meta = self._pipeline.public_prompt
        meta_N = None if meta is None else meta.to(backbone.device).expand(len(pixels_N3PP), *meta.shape)
        lower = kind.lower(pixels_N3PP)
        plain = lower.plain() if meta_N is None else lower.features(meta_N)
        return plain, lambda places_M, prompts_M: lower.rows(self._index(places_M)).features(prompts_M)

    @contextmanager
    def _inference(self) -> Iterator[None]:
        device = self._pipeline.backbone.device
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=self._config.bf16):
            yield

    def _on_device(self, images_N3PP: np.ndarray) -> Tensor:
        images, device = torch.from_numpy(images_N3PP), self._pipeline.backbone.device
        # From pinned memory the copy overlaps with what the GPU is doing.
        return images.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else images

    def _index(self, places_M: np.ndarray) -> Tensor:
        return torch.from_numpy(places_M).to(self._pipeline.backbone.device)
