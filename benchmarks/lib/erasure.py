"""Deletions from accepted to erased, one after the other: seconds of each step, and rows to tune again."""

from __future__ import annotations

import itertools
import math
import random
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.coordinator import Coordinator
from actors.fail_points import EVENT, FailPoint
from benchmarks.lib.background import wait_until
from benchmarks.lib.durations import seconds_between, spread
from benchmarks.lib.synthetic_stores import DigitStore, commits, copy_of, lease_of, running_coordinator, stand_in
from lmeraser.deletion import Deletion, DeletionRequest, Status
from lmeraser.state.pipeline import Pipeline, chunks

# In the order of a deletion; rows are written only where a touched cluster keeps some.
_STEPS = (
    FailPoint.REQUEST_RECORDED,
    FailPoint.ROWS_WRITTEN,
    FailPoint.HEADS_WRITTEN,
    FailPoint.COMMIT_APPENDED,
    FailPoint.LEASE_WAITED,
    FailPoint.SWEPT,
    FailPoint.ERASED_RECORDED,
)
# Share of the rows (one in this number) that is deleted before a new copy is taken.
_ROWS_PER_DELETED_ROW = 100


@dataclass(frozen=True)
class Moment:
    """When a step of a deletion was done, by the clock and by this process's processor time."""

    step: str
    clock_s: float
    cpu_s: float


_moments: list[Moment] = []


def note_steps() -> None:
    """Note the steps that the system announces from now on; an audit hook cannot be removed."""

    def note(event: str, details: tuple[Any, ...]) -> None:
        if event == EVENT:
            _moments.append(Moment(details[0], time.monotonic(), time.process_time()))

    sys.addaudithook(note)


def erase_one_by_one(store: DigitStore, ids: int, count: int) -> dict[str, Any]:
    """The figure of ``count`` deletions of ``ids`` rows each; about 1 % of the rows are deleted from each copy.

    ``note_steps`` must have been called.
    """
    pipeline = stand_in(store.pipeline)
    deletions: list[Deletion] = []
    asked_s: list[float] = []
    steps: list[dict[str, tuple[float, float]]] = []
    tuned_rows: list[int] = []
    generator = random.Random(ids)
    while len(deletions) < count:
        in_a_copy = min(max(1, len(store.sample_ids) // (_ROWS_PER_DELETED_ROW * ids)), count - len(deletions))
        with copy_of(store) as folder:
            with running_coordinator(folder, pipeline, lease_of(folder)) as coordinator:
                for sample_ids in chunks(generator.sample(store.sample_ids, ids * in_a_copy), ids):
                    _moments.clear()
                    requested_at_s = time.monotonic()
                    deletion = coordinator.delete(DeletionRequest(tuple(sample_ids)))
                    asked_s.append(time.monotonic() - requested_at_s)
                    wait_for_status(coordinator, deletion.id, "erased")
                    steps.append(_seconds_by_step(_moments))
                    deletions.append(coordinator.deletion(deletion.id))
                    if len(deletions) < count and in_a_copy > 1:
                        wait_until(coordinator.idle)
            tuned_rows += _rows_to_tune(folder, pipeline)
    return {
        "figure": "accepted to erased",
        "rows": len(store.sample_ids),
        "ids": ids,
        "n": count,
        "clusters": len(commits(store.folder)[-1].clusters),
        "asked_to_accepted_s": spread(asked_s),
        "accepted_to_erased_s": spread(
            [seconds_between(deletion.accepted_at, deletion.erased_at) for deletion in deletions]
        ),
        "of_that_cpu_s": spread([sum(cpu_s for _, cpu_s in by_step.values()) for by_step in steps]),
        "median_s_by_step": {
            name: round(statistics.median(by_step[name][0] for by_step in steps), 3) for name in steps[0]
        },
        "row_passes": _cost(store, tuned_rows, ids, pipeline),
    }


def wait_for_status(coordinator: Coordinator, deletion_id: str, status: Status) -> None:
    """Return once the deletion has the status or is completed."""
    wait_until(lambda: coordinator.deletion(deletion_id).status in (status, "completed"))


def _seconds_by_step(moments: Sequence[Moment]) -> dict[str, tuple[float, float]]:
    """Seconds by the clock and of the processor that each step took, up to the first deletion that is erased."""
    last: dict[str, Moment] = {}
    for moment in moments:
        last[moment.step] = moment
        if moment.step == _STEPS[-1]:
            break
    done = [last[step] for step in _STEPS if step in last]
    return {
        after.step: (after.clock_s - before.clock_s, after.cpu_s - before.cpu_s)
        for before, after in itertools.pairwise(done)
    }


def _rows_to_tune(folder: Path, pipeline: Pipeline) -> list[int]:
    """For each commit that erases: the rows of the clusters that have to be tuned again."""
    rows = []
    for before, after in itertools.pairwise(commits(folder)):
        if after.requests:
            known = {entry.rows_leaf for entry in before.clusters}
            new = [entry.rows for entry in after.clusters if entry.rows_leaf not in known]
            rows.append(sum(count for count in new if pipeline.config.tunes(count)))
    return rows


def _cost(store: DigitStore, tuned_rows: Sequence[int], ids: int, pipeline: Pipeline) -> dict[str, Any]:
    """Row-passes as counted, as expected of ids drawn without replacement, and the bound.

    A cluster of n rows of N loses none of m ids with probability C(N-n, m) / C(N, m); otherwise its remaining rows are
    tuned again. All m rows are of touched clusters, so epochs × (Σ n · (1 - C(N-n, m) / C(N, m)) - m) is expected; for
    one id that is epochs × (N · Σp² - 1), with p = n / N.
    """
    epochs = pipeline.config.tuning.epochs
    rows = [entry.rows for entry in commits(store.folder)[-1].clusters]
    total = sum(rows)
    touched = sum(n * (1 - math.comb(total - n, ids) / math.comb(total, ids)) for n in rows)
    counted = [epochs * count for count in tuned_rows]
    return {
        "epochs": epochs,
        "sum_of_squared_shares": round(sum((n / total) ** 2 for n in rows), 5),
        "expected": round(epochs * (touched - ids)),
        "mean": round(statistics.mean(counted)),
        "standard_error": round(statistics.stdev(counted) / len(counted) ** 0.5) if len(counted) > 1 else None,
        "max": max(counted),
        "bound": epochs * min(ids * pipeline.config.partition.max_cluster_rows, total - ids),
        "all_rows": epochs * (total - ids),
    }
