"""How a fitted method answers: its accuracy, and the work of answering as a replica does.

Legend: N images, P pixels per side, C classes, K clusters.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from benchmarks.lib.methods import Fit
from lmeraser.baselines import ClusterPrompts
from lmeraser.config import ServingConfig
from lmeraser.learning.heads import blend
from lmeraser.learning.numerics import deterministic
from lmeraser.state.cluster_entry import ClusterEntry
from lmeraser.state.commit import NO_HEADS, Commit
from serving.predictor import Predictor, ScoreRequest
from serving.routing_table import RoutingTable
from serving.snapshot import Snapshot

_SPECIALIST_WEIGHTS = (0.25, 0.5, 0.75, 1.0)
_SERVING = ServingConfig()
_BATCH_IMAGES = 64


def measure_accuracy(fitted: Fit, images_N3PP: np.ndarray, labels_N: np.ndarray) -> dict[str, float]:
    """Share of right answers under "accuracy"; ours also by specialist weight λ."""

    def share(scores_NC: np.ndarray) -> float:
        return round(float((scores_NC.argmax(axis=1) == labels_N).mean()), 4)

    if not isinstance(fitted, ClusterPrompts):
        return {"accuracy": share(fitted.scores(images_N3PP))}
    answers = fitted.answers(images_N3PP)
    parts = (answers.shared_NC, answers.pooled_NC, answers.specialist_N)
    by_weight = {weight: share(blend(*parts, weight, _SERVING.temperature)) for weight in _SPECIALIST_WEIGHTS}
    # The pooled head alone answers where it leaves no more unexplained than the shared one (design 4.4).
    answered = fitted.heads.solved.pooled.no_worse_than(fitted.heads.solved.shared)
    return {
        "accuracy": by_weight[1.0] if answered else share(answers.shared_NC),
        "shared": share(answers.shared_NC),
        **{f"pooled {weight}": accuracy for weight, accuracy in by_weight.items()},
    }


def unexplained(fitted: Fit) -> dict[str, float]:
    """What cross-validation leaves unexplained with each of our heads; empty for the other methods."""
    if not isinstance(fitted, ClusterPrompts):
        return {}
    return {"shared": fitted.heads.solved.shared.unexplained, "pooled": fitted.heads.solved.pooled.unexplained}


def replica_work(fitted: Fit, images_N3PP: np.ndarray) -> Callable[[], object]:
    """The work of answering these images: for ours as a replica does it, in batches of 64."""
    if not isinstance(fitted, ClusterPrompts):
        return lambda: fitted.scores(images_N3PP)
    snapshot, predictor = snapshot_of(fitted), Predictor(fitted.pipeline, _SERVING)
    batches = [images_N3PP[start : start + _BATCH_IMAGES] for start in range(0, len(images_N3PP), _BATCH_IMAGES)]

    def answer() -> None:
        with deterministic():
            for batch in batches:
                predictor.score(snapshot, [ScoreRequest(batch)])

    return answer


def snapshot_of(fitted: ClusterPrompts) -> Snapshot:
    """What a replica would load, had the fit been committed."""
    keys = list(fitted.specialists)
    entries = [
        ClusterEntry(cluster.key, cluster.region.anchors, cluster.region.bits, cluster.rows, (), "leaf", "leaf", "leaf")
        for cluster in fitted.partition.clusters
    ]
    prompts = [torch.from_numpy(fitted.specialists[key].prompt) for key in keys]
    return Snapshot(
        commit=Commit(tuple(entries), NO_HEADS, {}),
        prompts_K=torch.stack(prompts) if prompts else torch.zeros(0, *fitted.pipeline.prompt_kind.shape),
        prompt_objects=tuple(keys),
        routes=RoutingTable.of_clusters(entries, keys, fitted.pipeline.dendrogram.anchors),
        shared_head=fitted.heads.solved.shared,
        pooled_head=fitted.heads.solved.pooled,
    )
