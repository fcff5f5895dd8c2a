"""Section on membership inference: could an attacker with many shadow models tell that the rows were there?

Legend: W worlds, T targets, K scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np

from lmeraser.audit.attack import RATES, Gaussians, Strength, strength
from lmeraser.audit.plots import histograms, roc
from lmeraser.audit.report import Section, Table, not_done, section
from lmeraser.audit.shadow_models import STAGES, ShadowModels, Stage, train_shadow_models
from lmeraser.audit.targets import AttackedCluster, Plan
from lmeraser.progress import Progress
from lmeraser.state.pipeline import Pipeline

NAME, TITLE = "membership", "Can an attacker tell that the rows were there?"


def membership(
    pipeline: Pipeline, clusters: Sequence[AttackedCluster], plan: Plan, workers: Executor, report: Progress | None
) -> Section:
    """Run the attack at each stage, with the retrained models as the null."""
    if not plan.worlds:
        return not_done(NAME, TITLE, "no shadow worlds were asked for")
    worlds = [train_shadow_models(pipeline, cluster, plan, workers, report) for cluster in clusters]
    found = {stage: strength(*_scores(worlds, stage), seed=pipeline.config.seed) for stage in STAGES}
    count = plan.worlds * len(worlds)
    erased, completed = (sum(getattr(one, name) for one in worlds) for name in ("erased_equal", "completed_equal"))
    findings = []
    if erased < count:
        findings.append(f"at erased, {count - erased} of {count} worlds answer otherwise than the retrained control")
    if completed < count:
        findings.append(f"at completed, {count - completed} of {count} worlds differ from the retrained control")
    seen = found["before"].auc.low > 0.5
    deleted = sum(int(cluster.deleted_T.sum()) for cluster in clusters)
    targets = sum(len(cluster.targets) for cluster in clusters)
    tunings = sum(one.tunings for one in worlds)
    columns = ("", "AUC", *(f"TPR at {100 * rate:g} % FPR" for rate in RATES))
    rows = tuple(
        (stage, str(one.auc), *(str(one.true_positives[rate]) for rate in RATES)) for stage, one in found.items()
    )
    before = found["before"]
    said = [
        f"{len(clusters)} clusters were attacked, {targets} targets: {deleted} deleted rows and {targets - deleted} "
        f"stand-ins, which remain and whose deletion is simulated. {plan.worlds} shadow worlds a cluster, half to fit "
        f"the attack and half to test it; {tunings} tunings. {before.members} scores of members, {before.others} of "
        "others. Intervals: 95 %, bootstrap over worlds.",
        f"After the deletion every bit is that of the retrained control in {completed} of {count} worlds at completed "
        f"and in {erased} of {count} at erased, so no attack on the answers can do better than on the control.",
        "Before the deletion the attack sees the rows."
        if seen
        else "Before the deletion the attack does not see the rows either: here it has no power, and its figures alone "
        "would prove nothing.",
    ]
    if before.others * min(RATES) < 1:
        said.append(f"With {before.others} scores of others, {100 * min(RATES):g} % FPR allows none to be taken wrong.")
    return section(
        NAME,
        TITLE,
        findings,
        said=tuple(said),
        tables=(Table(columns, rows),),
        figures={
            "worlds": plan.worlds,
            "clusters": [cluster.entry.key for cluster in clusters],
            "targets": targets,
            "deleted_rows": deleted,
            "tunings": tunings,
            "specialist_weight": plan.specialist_weight,
            "temperature": plan.temperature,
            "sees_the_rows_before": seen,
            "equal_worlds": {"of": count, "erased": erased, "completed": completed},
            **{stage: _figures(one) for stage, one in found.items()},
        },
        plots=(
            roc({stage: one.curve for stage, one in found.items()}),
            histograms({stage: _scores(worlds, stage)[:2] for stage in STAGES}),
        ),
    )


def _scores(worlds: Sequence[ShadowModels], stage: Stage) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, memberships and worlds [K] of the half of each cluster's worlds that test."""
    scores, members, places = [], [], []
    for cluster, one in enumerate(worlds):
        half = len(one.member_WT) // 2
        fitted = Gaussians.fit(one.confidence[stage][:half], one.member_WT[:half])
        scores.append(fitted.scores(one.confidence[stage][half:]).ravel())
        members.append(one.member_WT[half:].ravel())
        worlds_W = cluster * len(one.member_WT) + np.arange(half, len(one.member_WT))
        places.append(np.repeat(worlds_W, one.member_WT.shape[1]))
    return np.concatenate(scores), np.concatenate(members), np.concatenate(places)


def _figures(one: Strength) -> dict[str, Any]:
    def told(estimate: Any) -> list[float]:
        return [round(value, 6) for value in (estimate.value, estimate.low, estimate.high)]

    rates = {f"{rate:g}": told(estimate) for rate, estimate in one.true_positives.items()}
    return {"auc": told(one.auc), "tpr_at_fpr": rates, "members": one.members, "others": one.others}
