"""Deletions from accepted to erased, one after the other: seconds of each step, and row-passes until completed."""

from __future__ import annotations

import itertools
import math
import random
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
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


def erase_one_by_one(store: DigitStore, ids: int, count: int, among: Sequence[str] = ()) -> dict[str, Any]:
    """The figure of ``count`` deletions of ``ids`` rows each; about 1 % of the rows are deleted from each copy.

    ``note_steps`` must have been called.

    Args:
        store: deleted from are copies of it.
        ids: rows of a request.
        count: requests.
        among: ids of the rows from which they are drawn uniformly; all rows where there are none.
    """
    pipeline = stand_in(store.pipeline)
    deletions: list[Deletion] = []
    asked_s: list[float] = []
    steps: list[dict[str, tuple[float, float]]] = []
    row_passes: list[int] = []
    generator = random.Random(ids)
    while len(deletions) < count:
        in_a_copy = min(max(1, len(store.sample_ids) // (_ROWS_PER_DELETED_ROW * ids)), count - len(deletions))
        with copy_of(store) as folder:
            with running_coordinator(folder, pipeline, lease_of(folder)) as coordinator:
                for sample_ids in chunks(generator.sample(among or store.sample_ids, ids * in_a_copy), ids):
                    _moments.clear()
                    requested_at_s = time.monotonic()
                    deletion = coordinator.delete(DeletionRequest(tuple(sample_ids)))
                    asked_s.append(time.monotonic() - requested_at_s)
                    wait_for_status(coordinator, deletion.id, "erased")
                    steps.append(_seconds_by_step(_moments))
                    deletions.append(coordinator.deletion(deletion.id))
                    if len(deletions) < count and in_a_copy > 1:
                        wait_until(coordinator.idle)
            row_passes += _row_passes(folder, pipeline)
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
        "completed_without_a_pass": sum(passes == 0 for passes in row_passes),
        "row_passes": _cost(store, row_passes, ids, pipeline, uniform=not among),
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


def _row_passes(folder: Path, pipeline: Pipeline) -> list[int]:
    """For each commit that erases: what tuning the clusters that lost their prompt takes."""
    passes = []
    for before, after in itertools.pairwise(commits(folder)):
        if after.requests:
            known = {entry.key: entry.coreset_leaf for entry in before.clusters}
            changed = [entry.rows for entry in after.clusters if entry.coreset_leaf != known.get(entry.key)]
            passes.append(sum(map(partial(_of_cluster, pipeline), changed)))
    return passes


def _of_cluster(pipeline: Pipeline, rows: int) -> int:
    """Row-passes of tuning a cluster and embedding its rows: 2em + n."""
    config = pipeline.config
    if not config.tunes(rows):
        return 0
    return 2 * config.tuning.epochs * min(rows, config.tuning.coreset_rows) + rows


def _cost(
    store: DigitStore, row_passes: Sequence[int], ids: int, pipeline: Pipeline, *, uniform: bool
) -> dict[str, Any]:
    """Row-passes as they follow from the commits, as expected of ids drawn uniformly, and the bound.

    The coreset of a cluster, m of all N rows, loses none of the ids with probability C(N-m, ids) / C(N, ids); otherwise
    the cluster is tuned again. That the rows which are left are a few fewer is not in the expectation.
    """
    config = pipeline.config
    rows = [entry.rows for entry in commits(store.folder)[-1].clusters]
    total = sum(rows)

    def loses_one(count: int) -> float:
        coreset_rows = min(count, config.tuning.coreset_rows)
        return 1 - math.comb(total - coreset_rows, ids) / math.comb(total, ids)

    costs = [_of_cluster(pipeline, count) for count in rows]
    return {
        "expected": round(sum(cost * loses_one(count) for cost, count in zip(costs, rows, strict=True)))
        if uniform
        else None,
        "mean": round(statistics.mean(row_passes)),
        "standard_error": round(statistics.stdev(row_passes) / len(row_passes) ** 0.5) if len(row_passes) > 1 else None,
        "max": max(row_passes),
        "bound": sum(sorted(costs)[-ids:]),
        "retrain": (2 * config.tuning.epochs + 1) * (total - ids),
    }
