"""Shadow models: the project's own program, run many times on subsets of one cluster's rows (decision 27).

Each run is a world: the cluster holds a part of its rows, and each target with probability one half. All targets that
a world holds are then deleted from it, with the arithmetic that the service uses. A control is trained from scratch on
the remaining rows. The partition stays as it is.

Legend: W worlds, T targets, N rows of the base, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from lmeraser.audit.attack import confidence
from lmeraser.audit.targets import AttackedCluster, Plan
from lmeraser.hashing import draw, draw_uint64
from lmeraser.learning.heads import Head, Statistics, blend
from lmeraser.learning.numerics import deterministic
from lmeraser.progress import Progress
from lmeraser.proof.recompute import specialists_of
from lmeraser.state.heads_state import HeadsState
from lmeraser.state.pipeline import Pipeline
from lmeraser.state.rows import RowTable
from lmeraser.state.specialist import Specialist

Stage = Literal["before", "erased", "completed", "control"]
STAGES: tuple[Stage, ...] = ("before", "erased", "completed", "control")
# Large enough that a shadow cluster is nearly as large as the real one, small enough that worlds differ.
_KEPT = 0.75


@dataclass(frozen=True)
class ShadowModels:
    """The confidences of the targets in every world.

    Attributes:
        member_WT: bool, whether the world held the target before the deletion.
        confidence: float64 [W, T] by stage; "control" is retrained without any target.
        erased_equal: worlds in which the answers at "erased" have the control's bits, all heads subtracted.
        completed_equal: worlds in which answers, prompt and heads at "completed" have the control's bits.
        tunings: how many prompts were tuned.
    """

    member_WT: np.ndarray
    confidence: dict[Stage, np.ndarray]
    erased_equal: int
    completed_equal: int
    tunings: int


def train_shadow_models(
    pipeline: Pipeline, cluster: AttackedCluster, plan: Plan, workers: Executor, report: Progress | None
) -> ShadowModels:
    """Train, delete and retrain in every world. Raises what a tuning raises."""
    kept_WN, member_WT = _drawn(pipeline.config.seed, cluster, plan.worlds)
    width = pipeline.feature_map.width
    after = [cluster.base.where(kept_N) for kept_N in kept_WN]
    removed = [cluster.targets.where(member_T) for member_T in member_WT]
    before = [RowTable.concatenate(pair, width) for pair in zip(after, removed, strict=True)]
    # "Completed" and the control are tuned separately, although on the same rows.
    tables = [*before, *after, *after]
    tuned = tune_all(pipeline, tables, workers, report, f"shadow tunings of {cluster.entry.key}")
    count = plan.worlds
    answers = Answers(pipeline, cluster, plan)
    confidences: dict[Stage, list[np.ndarray]] = {stage: [] for stage in STAGES}
    erased_equal = completed_equal = 0
    for world in range(count):
        old, new, control = tuned[world], tuned[count + world], tuned[2 * count + world]
        with deterministic():
            shared = cluster.rest_shared + answers.shared_of(before[world])
            pooled = cluster.rest_pooled + answers.pooled_of(old)
            confidences["before"].append(answers(HeadsState.of(shared, pooled), old))
            shared = shared - answers.shared_of(removed[world])
            pooled = pooled - answers.pooled_of(old)
            confidences["erased"].append(answers(HeadsState.of(shared, pooled), None))
            completed = HeadsState.of(shared, pooled + answers.pooled_of(new))
            confidences["completed"].append(answers(completed, new))
            alone = cluster.rest_shared + answers.shared_of(after[world])
            retrained = HeadsState.of(alone, cluster.rest_pooled + answers.pooled_of(control))
            confidences["control"].append(answers(retrained, control))
            erased_equal += np.array_equal(confidences["erased"][-1], answers(retrained, None))
            completed_equal += (
                np.array_equal(confidences["completed"][-1], confidences["control"][-1])
                and completed.digests() == retrained.digests()
                and _same(new, control)
            )
    stacked = {stage: np.stack(rows) for stage, rows in confidences.items()}
    tunings = sum(specialist is not None for specialist in tuned)
    return ShadowModels(member_WT, stacked, erased_equal, completed_equal, tunings)


def _same(one: Specialist | None, other: Specialist | None) -> bool:
    if one is None or other is None:
        return one is other
    return np.array_equal(one.prompt, other.prompt) and np.array_equal(one.features_NH, other.features_NH)


class Answers:
    """The targets' confidences under a state, from the blend of both heads at the plan's λ."""

    def __init__(self, pipeline: Pipeline, cluster: AttackedCluster, plan: Plan) -> None:
        self._pipeline = pipeline
        self._plan = plan
        self._targets = cluster.targets
        self._images_T3PP = pipeline.decode(cluster.targets.images)
        self._nothing = Statistics.zero(pipeline.feature_map.width, len(pipeline.config.labels))

    def __call__(self, heads: HeadsState, specialist: Specialist | None) -> np.ndarray:
        """Confidences, float64 [T]; without a specialist, those of the shared head alone."""
        shared_TC = heads.solved.shared.scores(self._targets.features_NH)
        pooled_TC = np.zeros_like(shared_TC)
        if specialist is not None:
            pooled_TC = self._pooled(heads.solved.pooled, specialist)
        has_T = np.full(len(self._targets), specialist is not None)
        mixed_TC = blend(shared_TC, pooled_TC, has_T, self._plan.specialist_weight, self._plan.temperature)
        return confidence(mixed_TC, self._targets.labels_N)

    def shared_of(self, rows: RowTable) -> Statistics:
        """The shared head's statistics of these rows."""
        return Statistics.of_all([rows], self._nothing)

    def pooled_of(self, specialist: Specialist | None) -> Statistics:
        """The pooled head's statistics of a specialist."""
        return Statistics.of_all([] if specialist is None else [specialist], self._nothing)

    def _pooled(self, head: Head, specialist: Specialist) -> np.ndarray:
        prompt = torch.from_numpy(specialist.prompt).to(self._pipeline.backbone.device)
        return head.scores(self._pipeline.prompted(self._images_T3PP, prompt))


def tune_all(
    pipeline: Pipeline, tables: list[RowTable], workers: Executor, report: Progress | None, what: str
) -> list[Specialist | None]:
    """The specialist of each table; None for tables that are too small for one. Progress is reported as ``what``."""
    large = [pipeline.config.tunes(len(table)) for table in tables]
    chosen = [table for table, enough in zip(tables, large, strict=True) if enough]
    tuned = iter(specialists_of(pipeline, chosen, workers, report, what))
    return [next(tuned) if enough else None for enough in large]


def _drawn(seed: int, cluster: AttackedCluster, worlds: int) -> tuple[np.ndarray, np.ndarray]:
    """Which rows of the base are kept [W, N], and which targets are members [W, T].

    A target is a member in exactly half of the worlds that the attack is fitted on, and of those that it is tested on.
    """
    kept_WN = np.array(
        [
            [draw_uint64(seed, "base", world, name) < _KEPT * 2**64 for name in cluster.base.sample_ids]
            for world in range(worlds)
        ]
    )
    member_WT = np.zeros((worlds, len(cluster.targets)), bool)
    half = worlds // 2
    for column, name in enumerate(cluster.targets.sample_ids):
        for part in (range(half), range(half, worlds)):
            order = sorted(part, key=_by_draw(seed, name))
            member_WT[order[: len(order) // 2], column] = True
    return kept_WN, member_WT


def _by_draw(seed: int, name: str) -> Callable[[int], bytes]:
    return lambda world: draw(seed, "member", world, name)
