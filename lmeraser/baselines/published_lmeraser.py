"""LMEraser as its authors published it (arXiv 2404.11056 and its code, May 2024), over the project's backbone.

Clusters are average linkage over the private features of the first 1000 rows, and their prototypes are the means of
those features. Every row goes to its nearest prototype. One program tunes everything: batches mix clusters, the loss is
the mean over the batch, one learning-rate schedule (a linear rise over a fifth of the steps, then half a cosine) spans
all steps, SGD with momentum. Each cluster has a pad prompt and a linear head on the final features.

A deletion does what the paper describes: the prompt and head of the row's cluster are tuned again on its remaining
rows. **This is not exact.** The deleted row still has an influence on:

- the prototypes, where the row was among the first 1000: they are never computed again, and neither is the cluster of
  any other row;
- every other cluster's prompt and head: the order of the batches, the batch that held the row and its mean loss, and
  the number of steps in the schedule follow from all rows.

Differences from the published code: the prompts of the last epoch are taken, not the best on validation rows; the
number of clusters is given, instead of a distance threshold found by hand; the head keeps its own rate, which the
published schedule overwrites with the prompt's; it reads the class token and the mean patch token, as our linear head.

Expected cost of deleting one of n rows, in row-epochs: ``2 · epochs · n · Σ p²``, p the clusters' shares of the rows.

Legend: N rows, B rows of a batch, P pixels per side, C classes, K clusters, D inputs of a head, W width of the
final features.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
import torch
from sklearn.cluster import AgglomerativeClustering
from torch import Tensor, nn

from lmeraser.baselines.part import rows_at, rows_without
from lmeraser.config import PromptConfig
from lmeraser.learning.backbone import Features
from lmeraser.learning.numerics import deterministic, in_fixed_batches
from lmeraser.learning.prompts import PromptKind, prompt_kind
from lmeraser.learning.schedule import half_cosine
from lmeraser.learning.tuning import TuningRows
from lmeraser.state.pipeline import Pipeline, extract_head

_CLUSTERED_ROWS = 1000
_MOMENTUM = 0.9
_WARM_UP_SHARE = 5


@dataclass(frozen=True)
class PublishedConfig:
    """The options of the published code's command line.

    Attributes:
        clusters: number of clusters.
        epochs: sweeps over all rows.
        batch_rows: rows in one step; the published code takes 128.
        learning_rate: peak rate of the prompts.
        head_learning_rate: peak rate of the heads.
        pad_px: width of the frame; 30 of 224 as published.
    """

    clusters: int
    epochs: int
    pad_px: int
    batch_rows: int = 128
    learning_rate: float = 10.0
    head_learning_rate: float = 0.1


@dataclass(frozen=True)
class PublishedLMEraser:
    """Prompts and heads by cluster, and the prototypes that choose between them.

    Attributes:
        pipeline: its backbone and seed are used.
        config: the options of the published code's command line.
        prototypes_KW: float32, means of private features.
        rows: the remaining rows.
        cluster_N: the cluster of each of them.
        prompts_K3PP: one prompt per cluster.
        weight_KCD, bias_KC: one linear head per cluster.
    """

    pipeline: Pipeline
    config: PublishedConfig
    prototypes_KW: np.ndarray
    rows: TuningRows
    cluster_N: np.ndarray
    prompts_K3PP: Tensor
    weight_KCD: Tensor
    bias_KC: Tensor

    @staticmethod
    def fit(pipeline: Pipeline, config: PublishedConfig, rows: TuningRows) -> PublishedLMEraser:
        """Cluster, then tune all clusters together; the first 1000 rows are those that are given first."""
        head_NF = extract_head(pipeline.backbone, rows.images_N3PP, pipeline.feature_batch)
        final_NW = head_NF[:, -pipeline.backbone.width :]
        prototypes_KW = _prototypes(final_NW[:_CLUSTERED_ROWS], config.clusters)
        cluster_N = _nearest(final_NW, prototypes_KW)
        parts = _tune_together(pipeline, config, rows, cluster_N, len(prototypes_KW))
        return PublishedLMEraser(pipeline, config, prototypes_KW, rows, cluster_N, *parts)

    def without(self, sample_ids: Collection[str]) -> PublishedLMEraser:
        """Tune the prompts and heads of the clusters that held these rows again, each on its own remaining rows.

        A cluster without rows has the prompt and head that a tuning starts from: no frame, and zeros.
        """
        removed = frozenset(sample_ids)
        remains_N = self._remains(removed)
        rows, cluster_N = rows_without(self.rows, removed), self.cluster_N[remains_N]
        parts = [part.clone() for part in (self.prompts_K3PP, self.weight_KCD, self.bias_KC)]
        for cluster in sorted(set(self.cluster_N[~remains_N].tolist())):
            own = rows_at(rows, np.flatnonzero(cluster_N == cluster))
            new_parts = _tune_together(self.pipeline, self.config, own, np.zeros(len(own.labels_N), np.int64), 1)
            for part, new_part in zip(parts, new_parts, strict=True):
                part[cluster] = new_part[0]
        prompts_K3PP, weight_KCD, bias_KC = parts
        return replace(
            self, rows=rows, cluster_N=cluster_N, prompts_K3PP=prompts_K3PP, weight_KCD=weight_KCD, bias_KC=bias_KC
        )

    def row_passes_of(self, sample_ids: Collection[str]) -> float:
        """Row-passes of this deletion, forward and backward together."""
        remains_N = self._remains(frozenset(sample_ids))
        touched = np.unique(self.cluster_N[~remains_N])
        return float(2 * self.config.epochs * np.isin(self.cluster_N[remains_N], touched).sum())

    def scores(self, images_N3PP: np.ndarray) -> np.ndarray:
        """Scores, float64 [N, C], of uint8 images: by prompt and head of the nearest prototype."""
        backbone, kind = self.pipeline.backbone, _kind(self.pipeline, self.config)

        def run(images_B3PP: np.ndarray) -> tuple[np.ndarray]:
            pixels_B3PP = backbone.normalise(torch.from_numpy(images_B3PP))
            final_BW = backbone.features_of_pixels(pixels_B3PP).head_NF[:, -backbone.width :]
            cluster_B = torch.from_numpy(_nearest(final_BW.cpu().numpy(), self.prototypes_KW))
            features = kind.features(pixels_B3PP, self.prompts_K3PP[cluster_B].to(backbone.device))
            read_BD = _final(features).cpu()
            scores_BC = torch.einsum("bd,bcd->bc", read_BD, self.weight_KCD[cluster_B]) + self.bias_KC[cluster_B]
            return (scores_BC.double().numpy(),)

        with deterministic(), torch.inference_mode():
            return in_fixed_batches(run, images_N3PP, self.pipeline.feature_batch)[0]

    def _remains(self, removed: frozenset[str]) -> np.ndarray:
        return np.array([name not in removed for name in self.rows.sample_ids], bool)


def _prototypes(final_NW: np.ndarray, clusters: int) -> np.ndarray:
    """Means of the clusters that average linkage finds, float32 [K, W]."""
    clusters = min(clusters, len(final_NW))
    if clusters < 2:
        return np.asarray(final_NW.mean(axis=0, keepdims=True), np.float32)
    with deterministic():
        cluster_N = AgglomerativeClustering(clusters, linkage="average").fit_predict(final_NW)
    return np.stack([final_NW[cluster_N == cluster].mean(axis=0) for cluster in range(clusters)]).astype(np.float32)


def _nearest(final_NW: np.ndarray, prototypes_KW: np.ndarray) -> np.ndarray:
    distances_NK = ((final_NW[:, None] - prototypes_KW) ** 2).sum(axis=2)
    nearest_N: np.ndarray = distances_NK.argmin(axis=1)
    return nearest_N


def _tune_together(
    pipeline: Pipeline, config: PublishedConfig, rows: TuningRows, cluster_N: np.ndarray, clusters: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Prompts, weights and biases of all clusters, tuned by one program over all rows."""
    backbone, kind = pipeline.backbone, _kind(pipeline, config)
    with deterministic():
        width = _final(backbone.features(torch.from_numpy(rows.images_N3PP[:1]))).shape[1]
        prompts_K3PP = nn.Parameter(torch.zeros(clusters, *kind.shape, device=backbone.device))
        weight_KCD = nn.Parameter(torch.zeros(clusters, len(pipeline.config.labels), width, device=backbone.device))
        bias_KC = nn.Parameter(torch.zeros(clusters, len(pipeline.config.labels), device=backbone.device))
        optimiser = torch.optim.SGD(
            [
                {"params": [prompts_K3PP], "peak": config.learning_rate},
                {"params": [weight_KCD, bias_KC], "peak": config.head_learning_rate},
            ],
            lr=0.0,
            momentum=_MOMENTUM,
            foreach=False,
        )
        # As published: a generator whose draws depend on how many rows there are.
        shuffle = np.random.default_rng(pipeline.config.seed)
        total, step = config.epochs * math.ceil(len(cluster_N) / config.batch_rows), 0
        for _ in range(config.epochs):
            order_N = shuffle.permutation(len(cluster_N))
            for start in range(0, len(order_N), config.batch_rows):
                batch_B = order_N[start : start + config.batch_rows]
                cluster_B = torch.from_numpy(cluster_N[batch_B])
                pixels_B3PP = backbone.normalise(torch.from_numpy(rows.images_N3PP[batch_B]))
                read_BD = _final(kind.features(pixels_B3PP, prompts_K3PP[cluster_B]))
                scores_BC = torch.einsum("bd,bcd->bc", read_BD, weight_KCD[cluster_B]) + bias_KC[cluster_B]
                labels_B = torch.from_numpy(rows.labels_N[batch_B]).to(backbone.device)
                for group in optimiser.param_groups:
                    group["lr"] = group["peak"] * _share(step, total)
                optimiser.zero_grad(set_to_none=True)
                nn.functional.cross_entropy(scores_BC, labels_B).backward()
                optimiser.step()
                step += 1
    return prompts_K3PP.detach().cpu(), weight_KCD.detach().cpu(), bias_KC.detach().cpu()


def _share(step: int, total: int) -> float:
    """The share of the peak rate at a step: a linear rise over a fifth of all steps, then half a cosine."""
    rise = total // _WARM_UP_SHARE
    if step < rise:
        return (step + 1) / rise
    return half_cosine(step - rise, total - rise)


def _kind(pipeline: Pipeline, config: PublishedConfig) -> PromptKind:
    return prompt_kind(PromptConfig("pad", pad_px=config.pad_px), pipeline.backbone)


def _final(features: Features) -> Tensor:
    """The input of the heads: the deepest features, each row at zero mean and unit variance."""
    return nn.functional.layer_norm(features.deepest_ND, features.deepest_ND.shape[1:])
