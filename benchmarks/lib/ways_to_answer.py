"""Ways to answer a batch over several clusters, which ``Predictor.score`` is compared with.

Legend: N images, M images of one cluster, K clusters, P pixels per side, R routing features, S tokens, D width,
C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import ray
import torch
from torch import nn

from benchmarks.lib.cluster_batch import CLASSES, IMAGES, ClusterBatch, random_batch
from lmeraser.config import PromptConfig, ServingConfig
from serving.predictor import Predictor
from serving.snapshot import Snapshot


def plain_forward(batch: ClusterBatch) -> torch.Tensor:
    """What the model alone costs: timm's own forward of the batch, without any head."""
    backbone = batch.pipeline.backbone
    with torch.inference_mode():
        output: torch.Tensor = backbone.model(backbone.normalise(torch.from_numpy(batch.images_N3PP)))
        # Where there is a GPU, this waits for it.
        return output.cpu()


def routed(batch: ClusterBatch, snapshot: Snapshot) -> tuple[torch.Tensor, np.ndarray]:
    """Pixels of the batch, and by the first block the cluster of each image."""
    pipeline = batch.pipeline
    pixels_N3PP = pipeline.backbone.normalise(torch.from_numpy(batch.images_N3PP))
    routing_NR = pipeline.backbone.routing(pixels_N3PP).cpu().numpy()
    return pixels_N3PP, snapshot.routes.specialist_A[pipeline.anchor_index.nearest(routing_NR)]


def pass_by_cluster(batch: ClusterBatch, predictor: Predictor, snapshot: Snapshot) -> np.ndarray:
    """Routing, then one prompted pass for each cluster that the batch meets."""
    pipeline = batch.pipeline
    scores_NC = np.zeros((IMAGES, CLASSES))
    with torch.inference_mode():
        pixels_N3PP, cluster_N = routed(batch, snapshot)
        for cluster in np.unique(cluster_N):
            rows_M = np.flatnonzero(cluster_N == cluster)
            prompts_M = snapshot.prompts_K[cluster].expand(len(rows_M), *pipeline.prompt_kind.shape)
            features = pipeline.prompt_kind.features(pixels_N3PP[rows_M], prompts_M)
            scores_NC[rows_M] = snapshot.pooled_head.scores(predictor.projected(features.head_NF))
    return scores_NC


class OwnerOfCluster:
    """Answers for one cluster."""

    def __init__(self, prompt: PromptConfig, clusters: int, cluster: int, threads: int) -> None:
        torch.set_num_threads(threads)
        self._batch = random_batch(prompt)
        self._predictor = Predictor(self._batch.pipeline, ServingConfig())
        self._snapshot = self._batch.snapshot(clusters)
        self._cluster = cluster

    def scores(self, pixels_M3PP: np.ndarray) -> np.ndarray:
        """Of the pooled head, (M, C)."""
        pipeline = self._batch.pipeline
        with torch.inference_mode():
            prompts_M = self._snapshot.prompts_K[self._cluster].expand(len(pixels_M3PP), *pipeline.prompt_kind.shape)
            features = pipeline.prompt_kind.features(torch.from_numpy(pixels_M3PP.copy()), prompts_M)
            return self._snapshot.pooled_head.scores(self._predictor.projected(features.head_NF))


def start_owners(prompt: PromptConfig, count: int, threads: int) -> list[Any]:
    """One actor for each of this number of clusters."""
    actor = ray.remote(num_cpus=0)(OwnerOfCluster)
    return [actor.remote(prompt, count, cluster, threads) for cluster in range(count)]


def ask_owners(batch: ClusterBatch, snapshot: Snapshot, owners: Sequence[Any]) -> np.ndarray:
    """Routing here, then each cluster's images to its actor, all at once."""
    scores_NC = np.zeros((IMAGES, CLASSES))
    with torch.inference_mode():
        pixels_N3PP, cluster_N = routed(batch, snapshot)
    replies = {
        cluster: owners[cluster].scores.remote(pixels_N3PP.numpy()[cluster_N == cluster])
        for cluster in np.unique(cluster_N)
    }
    for cluster, reply in replies.items():
        scores_NC[cluster_N == cluster] = ray.get(reply)
    return scores_NC


def loop_over_images(batch: ClusterBatch, snapshot: Snapshot, heads_K: Sequence[nn.Linear]) -> torch.Tensor:
    """As published: the prompt is put on image by image, one pass takes all, and each goes through its cluster's head.

    Images are routed by our first block; the published method routes by a whole pass. The published head sees the final
    class token only, and there is no shared head.
    """
    with torch.inference_mode():
        pixels_N3PP, cluster_N = routed(batch, snapshot)
        prompted = [pixels_N3PP[n : n + 1] + snapshot.prompts_K[cluster] for n, cluster in enumerate(cluster_N)]
        model: Any = batch.pipeline.backbone.model
        tokens_NSD = model.forward_features(torch.cat(prompted))
        return torch.stack([heads_K[cluster](tokens_NSD[n, 0]) for n, cluster in enumerate(cluster_N)]).cpu()
