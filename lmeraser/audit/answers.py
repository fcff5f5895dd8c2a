"""Section on the answers: does the state that is served answer with the bits of a retrained one?"""

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
    """Ask the stored state and a retrained one for every target, and compare the bits of the confidences."""
    # A cluster that awaits its tuning is compared without a specialist.
    tables = [cluster.remaining for cluster in clusters if cluster.stored is not None]
    tuned = iter(tune_all(pipeline, tables, workers, report, "tunings to compare answers"))
    findings, rows = [], []
    for cluster in clusters:
        fresh = next(tuned) if cluster.stored is not None else None
        tell = Answers(pipeline, cluster, plan)
        with deterministic():
            shared = cluster.rest_shared + tell.shared_of(cluster.remaining)
            retrained = HeadsState.of(shared, cluster.rest_pooled + tell.pooled_of(fresh))
            served_T, fresh_T = tell(cluster.heads, cluster.stored), tell(retrained, fresh)
        equal_T = served_T.view(np.uint64) == fresh_T.view(np.uint64)
        if not equal_T.all():
            findings.append(
                f"cluster {cluster.entry.key} answers otherwise than a retrained one for {int((~equal_T).sum())} of "
                f"{len(equal_T)} rows; the largest difference in confidence is {np.abs(served_T - fresh_T).max():.3g}"
            )
        deleted = int(cluster.deleted_T.sum())
        rows.append((cluster.entry.key, str(deleted), str(len(equal_T) - deleted), f"{equal_T.sum()}/{len(equal_T)}"))
    return section(
        NAME,
        TITLE,
        findings,
        said=(
            "The confidence of the blend of both heads in the row's own label, from the objects of the store and from "
            "a model that was retrained on the remaining rows alone.",
        ),
        tables=(Table(("cluster", "deleted rows asked", "stand-ins asked", "same bits"), tuple(rows)),),
        figures={"clusters": [row[0] for row in rows], "same_bits": [row[3] for row in rows]},
    )
