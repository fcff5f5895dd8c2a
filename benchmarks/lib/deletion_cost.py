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
# Ids of one cluster, the first of its rows.
_WORST_REQUESTS = (1, 10, 50)


def draw_ids(train: list[Sample], count: int, seed: int) -> list[str]:
    """Sample ids drawn uniformly without replacement."""
    return sorted((sample.sample_id for sample in train), key=lambda name: draw(seed, "deleted", name))[:count]


def expected_row_passes(fitted: Fit, train: list[Sample]) -> float:
    """Row-passes of deleting one row, the mean over all rows."""
    if isinstance(fitted, ClusterPrompts):
        # A partition depends on counts only, so every row of a cluster costs the same.
        by_cluster = [(len(rows), fitted.row_passes_of(rows.sample_ids[:1])) for rows in fitted.clusters.values()]
        return sum(rows * cost for rows, cost in by_cluster) / len(train)
    return float(np.mean([fitted.row_passes_of([sample.sample_id]) for sample in train]))


def row_passes_of_requests(fitted: Fit, train: list[Sample], seed: int) -> dict[str, float]:
    """Row-passes of requests by kind: the mean over some drawn requests, and the worst of one cluster for ours."""
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
    if isinstance(fitted, ClusterPrompts):
        # The most that rows of one cluster can cost, a new partition that they cause included.
        for size in _WORST_REQUESTS:
            worst = max(fitted.row_passes_of(rows.sample_ids[:size]) for rows in fitted.clusters.values())
            costs[f"the worst {size} of one cluster"] = worst
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
