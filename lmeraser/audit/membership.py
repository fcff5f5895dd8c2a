"""Section on membership inference: could an attacker with many shadow models tell that the rows were there?

Legend: W worlds, T targets, K scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np

from lmeraser.audit.attack import RATES, Estimate, Gaussians, Strength, strength
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
    """Run the attack at each stage, with the retrained models as the null hypothesis."""
    if not plan.worlds:
        return not_done(NAME, TITLE, "no shadow worlds were requested")
    models = [train_shadow_models(pipeline, cluster, plan, workers, report) for cluster in clusters]
    attack = _Attack(
        clusters,
        plan,
        models,
        {stage: strength(*_scores(models, stage), seed=pipeline.config.seed) for stage in STAGES},
    )
    columns = ("", "AUC", *(f"TPR at {100 * rate:g} % FPR" for rate in RATES))
    rows = tuple(
        (stage, str(each.auc), *(str(each.true_positives[rate]) for rate in RATES))
        for stage, each in attack.strengths.items()
    )
    return section(
        NAME,
        TITLE,
        attack.findings(),
        said=attack.sentences(),
        tables=(Table(columns, rows),),
        figures=attack.figures(),
        plots=(
            roc({stage: each.curve for stage, each in attack.strengths.items()}),
            histograms({stage: _scores(models, stage)[:2] for stage in STAGES}),
        ),
    )


@dataclass(frozen=True)
class _Attack:
    """The outcome of the attack.

    Attributes:
        clusters, plan: what was attacked, and how.
        models: shadow models of each cluster.
        strengths: of the attack, by stage.
    """

    clusters: Sequence[AttackedCluster]
    plan: Plan
    models: Sequence[ShadowModels]
    strengths: Mapping[Stage, Strength]

    @property
    def worlds(self) -> int:
        """How many shadow worlds there were in all clusters."""
        return self.plan.worlds * len(self.models)

    @property
    def erased_equal(self) -> int:
        """Worlds whose answers at "erased" have the bits of the retrained control."""
        return sum(each.erased_equal for each in self.models)

    @property
    def completed_equal(self) -> int:
        """Worlds whose answers, prompt and heads at "completed" have the bits of the retrained control."""
        return sum(each.completed_equal for each in self.models)

    @property
    def targets(self) -> int:
        """How many rows were attacked."""
        return sum(len(cluster.targets) for cluster in self.clusters)

    @property
    def deleted_rows(self) -> int:
        """How many of them were really deleted."""
        return sum(int(cluster.deleted_T.sum()) for cluster in self.clusters)

    @property
    def tunings(self) -> int:
        """How many prompts were tuned."""
        return sum(each.tunings for each in self.models)

    @property
    def sees_the_rows_before(self) -> bool:
        """Whether the attack is better than chance before the deletion."""
        return self.strengths["before"].auc.low > 0.5

    def findings(self) -> list[str]:
        """What differs from the retrained control."""
        findings = []
        if differing := self.worlds - self.erased_equal:
            findings.append(f"at erased, {differing} of {self.worlds} worlds answer differently from the control")
        if differing := self.worlds - self.completed_equal:
            findings.append(f"at completed, {differing} of {self.worlds} worlds differ from the retrained control")
        return findings

    def sentences(self) -> tuple[str, ...]:
        """How the attack was run, and what it shows."""
        before = self.strengths["before"]
        power = (
            "Before the deletion the attack sees the rows."
            if self.sees_the_rows_before
            else "Before the deletion the attack does not see the rows either: it has no power here, and its figures "
            "alone would prove nothing."
        )
        coarse = f"With {before.others} scores of others, {100 * min(RATES):g} % FPR allows no false positive."
        return (
            f"{len(self.clusters)} clusters with {self.targets} targets were attacked: {self.deleted_rows} deleted "
            f"rows, and {self.targets - self.deleted_rows} stand-ins, which remain and whose deletion is simulated. "
            f"{self.plan.worlds} shadow worlds per cluster, half to fit the attack and half to test it; {self.tunings} "
            f"tunings. {before.members} scores of members, {before.others} of others. Intervals: 95 %, bootstrap over "
            "worlds.",
            f"After the deletion every bit is that of the retrained control in {self.completed_equal} of {self.worlds} "
            f"worlds at completed and in {self.erased_equal} of {self.worlds} at erased. Where the bits are equal, no "
            "attack on the answers can do better than on the control.",
            power,
            *((coarse,) if before.others * min(RATES) < 1 else ()),
        )

    def figures(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "worlds": self.plan.worlds,
            "clusters": [cluster.entry.key for cluster in self.clusters],
            "targets": self.targets,
            "deleted_rows": self.deleted_rows,
            "tunings": self.tunings,
            "specialist_weight": self.plan.specialist_weight,
            "temperature": self.plan.temperature,
            "sees_the_rows_before": self.sees_the_rows_before,
            "equal_worlds": {"of": self.worlds, "erased": self.erased_equal, "completed": self.completed_equal},
            **{stage: _figures(each) for stage, each in self.strengths.items()},
        }


def _scores(models: Sequence[ShadowModels], stage: Stage) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, memberships and worlds [K] of the testing half of each cluster's worlds."""
    scores, members, worlds = [], [], []
    for cluster, each in enumerate(models):
        half = len(each.member_WT) // 2
        fitted = Gaussians.fit(each.confidence[stage][:half], each.member_WT[:half])
        scores.append(fitted.scores(each.confidence[stage][half:]).ravel())
        members.append(each.member_WT[half:].ravel())
        world_W = cluster * len(each.member_WT) + np.arange(half, len(each.member_WT))
        worlds.append(np.repeat(world_W, each.member_WT.shape[1]))
    return np.concatenate(scores), np.concatenate(members), np.concatenate(worlds)


def _figures(measured: Strength) -> dict[str, Any]:
    def rounded(estimate: Estimate) -> list[float]:
        return [round(value, 6) for value in (estimate.value, estimate.low, estimate.high)]

    rates = {f"{rate:g}": rounded(estimate) for rate, estimate in measured.true_positives.items()}
    return {
        "auc": rounded(measured.auc),
        "tpr_at_fpr": rates,
        "members": measured.members,
        "others": measured.others,
    }
