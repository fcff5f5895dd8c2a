"""Section on the answers: are the served answers those of a retrained model, bit for bit?"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor

import numpy as np

from lmeraser.audit.report import Section, Table, section
from lmeraser.audit.shadow_models import Answers, tune_all
from lmeraser.audit.targets import AttackedCluster, Plan
from lmeraser.learning.numerics import deterministic
from lmeraser.progress import Progress
from lmeraser.state.heads_state import HeadsState
from lmeraser.state.pipeline import Pipeline

NAME, TITLE = "answers", "Are the answers those of a model that never saw the rows?"


def answers(
    pipeline: Pipeline, clusters: Sequence[AttackedCluster], plan: Plan, workers: Executor, report: Progress | None
) -> Section:
    """Query the stored state and a retrained one with every target, and compare the bits of the confidences."""
    # A cluster that awaits tuning is compared without a specialist.
    tables = [cluster.remaining for cluster in clusters if cluster.stored is not None]
    tuned = iter(tune_all(pipeline, tables, workers, report, "tunings to compare answers"))
    findings, rows = [], []
    for cluster in clusters:
        fresh = next(tuned) if cluster.stored is not None else None
        confidences = Answers(pipeline, cluster, plan)
        with deterministic():
            shared = cluster.rest_shared + confidences.shared_of(cluster.remaining)
            retrained = HeadsState.of(shared, cluster.rest_pooled + confidences.pooled_of(fresh))
            served_T, fresh_T = confidences(cluster.heads, cluster.stored), confidences(retrained, fresh)
        equal_T = served_T.view(np.uint64) == fresh_T.view(np.uint64)
        if not equal_T.all():
            findings.append(
                f"cluster {cluster.entry.key} answers differently from a retrained one for {int((~equal_T).sum())} of "
                f"{len(equal_T)} rows; the largest difference in confidence is {np.abs(served_T - fresh_T).max():.3g}"
            )
        deleted = int(cluster.deleted_T.sum())
        rows.append((cluster.entry.key, str(deleted), str(len(equal_T) - deleted), f"{equal_T.sum()}/{len(equal_T)}"))
    return section(
        NAME,
        TITLE,
        findings,
        said=(
            "Compared: the confidence of the blended heads in each row's own label, from the store's objects and from "
            "a model that was retrained on the remaining rows alone.",
        ),
        tables=(Table(("cluster", "deleted rows", "stand-ins", "same bits"), tuple(rows)),),
        figures={"clusters": [row[0] for row in rows], "same_bits": [row[3] for row in rows]},
    )
