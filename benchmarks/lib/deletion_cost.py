"""What deletions cost a fitted method, in rows that pass through the backbone, forward and backward together."""

from __future__ import annotations

import numpy as np

from benchmarks.lib.methods import Fit
from lmeraser.baselines import ClusterPrompts, PublishedLMEraser, Sisa
from lmeraser.data import Sample
from lmeraser.hashing import draw

# Ids in a request, and how many such requests are drawn.
_UNIFORM_REQUESTS = ((1, 20), (10, 10), (100, 5), (1000, 1))
_SUBJECTS = 20


def draw_ids(train: list[Sample], count: int, seed: int) -> list[str]:
    """Sample ids drawn uniformly without replacement."""
    return sorted((sample.sample_id for sample in train), key=lambda name: draw(seed, "deleted", name))[:count]


def row_passes_of_one_row(fitted: Fit, train: list[Sample]) -> dict[str, float]:
    """Row-passes of deleting one row: the mean over all rows, the worst, and the share of rows that cost none."""
    if isinstance(fitted, ClusterPrompts):
        costs_N = fitted.row_passes_of_each()
    else:
        costs_N = np.array([fitted.row_passes_of([sample.sample_id]) for sample in train])
    return {"expected": float(costs_N.mean()), "worst": float(costs_N.max()), "free": float((costs_N == 0).mean())}


def row_passes_of_requests(fitted: Fit, train: list[Sample], seed: int) -> dict[str, float]:
    """Row-passes of requests by kind: the mean over some drawn requests."""
    # Where the data names no subjects, each row is its own subject.
    rows_of: dict[str, list[str]] = {}
    for sample in train:
        rows_of.setdefault(sample.subject_id or sample.sample_id, []).append(sample.sample_id)
    subjects = sorted(rows_of, key=lambda name: draw(seed, "subject", name))[:_SUBJECTS]
    costs = {"a subject": float(np.mean([fitted.row_passes_of(rows_of[name]) for name in subjects]))}
    for size, draws in _UNIFORM_REQUESTS:
        if size < len(train):
            requests = [draw_ids(train, size, seed * 100 + number) for number in range(draws)]
            costs[f"{size} uniform"] = float(np.mean([fitted.row_passes_of(ids) for ids in requests]))
    return costs


def cluster_rows(fitted: Fit) -> list[int]:
    """Rows of each cluster or shard, the largest first; empty for methods without."""
    if isinstance(fitted, ClusterPrompts):
        return sorted((len(rows) for rows in fitted.clusters.values()), reverse=True)
    if isinstance(fitted, PublishedLMEraser):
        return sorted(np.bincount(fitted.cluster_N).tolist(), reverse=True)
    if isinstance(fitted, Sisa):
        return sorted((len(shard.rows.sample_ids) for shard in fitted.shards if shard is not None), reverse=True)
    return []
