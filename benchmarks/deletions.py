"""What does a deletion cost: seconds until erased and until completed, tunings, and rows passed?

The coordinator's own class, stepped by a thread as its Ray actor does it, over a store on the local disk; owners live
in the same process (no Ray). Configuration and features are the demo's. Prints one JSON object for each figure. Takes
about 20 minutes on two cores; ``--quick`` takes a minute, and its figures say nothing.

    python benchmarks/deletions.py --out /tmp/deletions

Where a tuning is not what is timed, a stand-in writes a specialist of the same size at once.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import math
import os
import random
import shutil
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stores import Prepared, a_copy, at_work, commits, lease_of, prepared, rows_of, samples, stand_in, wait

# The script serving.py beside this one would hide the package of the same name.
sys.path.insert(0, str(Path(__file__).parent.parent))

from actors.coordinator import Coordinator
from actors.fail_points import EVENT, FailPoint
from cluster.demo import CONFIG
from lmeraser.config import StateConfig, load_config
from lmeraser.data import open_source
from lmeraser.deletion import Deletion, DeletionRequest, Status
from lmeraser.learning.backbone import create_model
from lmeraser.state.keys import init_keys
from lmeraser.state.pipeline import Pipeline, chunks
from lmeraser.state.public_artifacts import create_store
from lmeraser.state.public_fit import build_public
from lmeraser.store import LocalStore

# In the order of a deletion; rows are written only where a cluster is left.
STEPS = (
    FailPoint.REQUEST_RECORDED,
    FailPoint.ROWS_WRITTEN,
    FailPoint.HEADS_WRITTEN,
    FailPoint.COMMIT_APPENDED,
    FailPoint.LEASE_WAITED,
    FailPoint.SWEPT,
    FailPoint.ERASED_RECORDED,
)


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the stores; made anew")
    parser.add_argument("--quick", action="store_true", help="few rows, few repetitions")
    arguments = parser.parse_args()
    shutil.rmtree(arguments.out, ignore_errors=True)
    # The coordinator's own process has no torch: what belongs to it is kept out of garbage collections here.
    gc.collect()
    gc.freeze()
    for figure in figures(arguments.out, arguments.quick):
        machine = {
            "cores": os.cpu_count(),
            "load": round(os.getloadavg()[0], 1),
            "date": datetime.now().date().isoformat(),
        }
        print(json.dumps({**figure, **machine}), flush=True)


def figures(out: Path, quick: bool) -> Iterator[dict[str, Any]]:
    """All figures, the long ones last."""
    sizes: tuple[int, ...] = (1_000, 2_000) if quick else (1_000, 10_000, 50_000)
    repetitions = {1: 5, 10: 3, 1000: 1} if quick else {1: 100, 10: 100, 1000: 5}
    requests = 20 if quick else 1_000
    config = load_config(CONFIG)
    state_config = config.state(open_source(config.private).labels)
    torch.manual_seed(0)
    public = open_source(config.public)
    artifacts = build_public(
        state_config, create_model(state_config.backbone).state_dict(), public.samples(public.labels)
    )
    one_cluster = replace(state_config, partition=replace(state_config.partition, max_cluster_rows=2_000))

    def empty(name: str, of: StateConfig = state_config) -> Path:
        create_store(LocalStore(out / name / "store"), of, artifacts)
        init_keys(out / name / "keys")
        return out / name

    table = rows_of(Prepared(empty("features"), ()).pipeline, samples(config, sizes[-1]))

    def holding(rows: int, of: StateConfig = state_config) -> Prepared:
        name = f"{rows}-rows-in-clusters-of-{of.partition.max_cluster_rows}"
        return prepared(empty(name, of), table.where(np.arange(len(table)) < rows))

    small, middle = holding(sizes[0]), holding(sizes[1])
    yield from (erasing(small, ids, count) for ids, count in repetitions.items())
    yield from (erasing(middle, ids, count) for ids, count in repetitions.items())
    yield planned(middle, requests, together=True)
    yield planned(middle, requests, together=False)
    yield planned(holding(2_000, one_cluster), requests, together=True)
    yield completing(small, 1, 1 if quick else 10)
    yield completing(small, 10, 1 if quick else 3)
    if not quick:
        large = holding(sizes[2])
        yield from (erasing(large, ids, count) for ids, count in repetitions.items())
        yield completing(large, 1, 10)
        yield completing(middle, 1000, 1)


def erasing(store: Prepared, ids: int, count: int) -> dict[str, Any]:
    """From accepted to erased, one deletion after the other; about 1 % of the rows go before a new copy is taken."""
    pipeline = stand_in(store.pipeline)
    deletions: list[Deletion] = []
    asked_s: list[float] = []
    steps: list[dict[str, tuple[float, float]]] = []
    tuned_rows: list[int] = []
    chance = random.Random(ids)
    while len(deletions) < count:
        in_a_copy = min(max(1, len(store.sample_ids) // (100 * ids)), count - len(deletions))
        with a_copy(store) as folder:
            with at_work(folder, pipeline, lease_of(folder)) as coordinator:
                for wanted in chunks(chance.sample(store.sample_ids, ids * in_a_copy), ids):
                    MOMENTS.clear()
                    asked = time.monotonic()
                    deletion = coordinator.delete(DeletionRequest(tuple(wanted)))
                    asked_s.append(time.monotonic() - asked)
                    until(coordinator, deletion.id, "erased")
                    steps.append(since_before(MOMENTS))
                    deletions.append(coordinator.deletion(deletion.id))
                    if len(deletions) < count and in_a_copy > 1:
                        wait(coordinator.idle)
            tuned_rows += rows_to_tune(folder, pipeline)
    return {
        "figure": "accepted to erased",
        "rows": len(store.sample_ids),
        "ids": ids,
        "n": count,
        "clusters": len(commits(store.folder)[-1].clusters),
        "asked_to_accepted_s": spread(asked_s),
        "accepted_to_erased_s": spread([between(one.accepted_at, one.erased_at) for one in deletions]),
        "of_that_cpu_s": spread([sum(cpu_s for _, cpu_s in one.values()) for one in steps]),
        "median_s_by_step": {name: round(statistics.median(one[name][0] for one in steps), 3) for name in steps[0]},
        "row_passes": cost(store, tuned_rows, ids, pipeline),
    }


def completing(store: Prepared, ids: int, count: int) -> dict[str, Any]:
    """From erased to completed with real tunings, one after the other, each deletion on a copy of its own."""
    pipeline = store.pipeline
    took_s: list[float] = []
    tunings: list[int] = []
    for number in range(count):
        with a_copy(store) as folder, at_work(folder, pipeline, lease_of(folder)) as coordinator:
            deletion = coordinator.delete(DeletionRequest(tuple(random.Random(number).sample(store.sample_ids, ids))))
            until(coordinator, deletion.id, "completed")
            deletion = coordinator.deletion(deletion.id)
            took_s.append(between(deletion.erased_at, deletion.completed_at))
            tunings.append(coordinator.status().tunings)
    return {
        "figure": "erased to completed",
        "rows": len(store.sample_ids),
        "ids": ids,
        "n": count,
        "erased_to_completed_s": spread(took_s),
        "mean_tunings": statistics.mean(tunings),
    }


def planned(store: Prepared, requests: int, together: bool) -> dict[str, Any]:
    """Tunings that deletions of one row each cost: sent at once, or each after the one before is completed."""
    pipeline = stand_in(store.pipeline)
    with a_copy(store) as folder, at_work(folder, pipeline, lease_of(folder) if together else 0.0) as coordinator:
        clusters = coordinator.status().clusters
        begun = time.monotonic()
        for name in random.Random(0).sample(store.sample_ids, requests):
            coordinator.delete(DeletionRequest((name,)))
            if not together:
                wait(coordinator.idle)
        sent_s = time.monotonic() - begun
        wait(coordinator.idle)
        erased_s = spread([between(one.accepted_at, one.erased_at) for one in coordinator.deletions()])
        return {
            "figure": "tunings",
            "rows": len(store.sample_ids),
            "requests": requests,
            "sent": "at once" if together else "each after the one before is completed",
            "clusters": clusters,
            "tunings": coordinator.status().tunings,
            "commits_that_erase": len([one for one in commits(folder) if one.requests]),
            "sending_s": round(sent_s, 1) if together else None,
            "accepted_to_erased_s": erased_s if together else None,
        }


def rows_to_tune(folder: Path, pipeline: Pipeline) -> list[int]:
    """For each commit that erases: the rows of the clusters that have to be tuned again."""
    return [
        sum(
            entry.rows
            for entry in after.clusters
            if entry.rows_leaf not in {one.rows_leaf for one in before.clusters} and pipeline.config.tunes(entry.rows)
        )
        for before, after in itertools.pairwise(commits(folder))
        if after.requests
    ]


def cost(store: Prepared, tuned_rows: Sequence[int], ids: int, pipeline: Pipeline) -> dict[str, Any]:
    """Row-passes as counted, as expected of ids drawn without replacement, and the bound.

    A cluster of n rows of N loses none of m ids with probability C(N-n, m) / C(N, m); otherwise the rows that it has
    left are tuned again. All m rows go from touched clusters, so epochs × (Σ n · (1 - C(N-n, m) / C(N, m)) - m) is
    expected; for one id that is epochs × (N · Σp² - 1), with p = n / N.
    """
    epochs = pipeline.config.tuning.epochs
    rows = [entry.rows for entry in commits(store.folder)[-1].clusters]
    total = sum(rows)
    touched = sum(n * (1 - math.comb(total - n, ids) / math.comb(total, ids)) for n in rows)
    counted = [epochs * one for one in tuned_rows]
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


@dataclass(frozen=True)
class Moment:
    """When a step of a deletion was done, by the clock and by this process's processor time."""

    step: str
    clock_s: float
    cpu_s: float


MOMENTS: list[Moment] = []


def note(event: str, details: tuple[Any, ...]) -> None:
    """Note the steps that the system announces."""
    if event == EVENT:
        MOMENTS.append(Moment(details[0], time.monotonic(), time.process_time()))


def since_before(moments: Sequence[Moment]) -> dict[str, tuple[float, float]]:
    """Seconds by the clock and of the processor that ended with each step, up to the first that is erased."""
    last: dict[str, Moment] = {}
    for moment in moments:
        last[moment.step] = moment
        if moment.step == STEPS[-1]:
            break
    done = [last[step] for step in STEPS if step in last]
    return {
        after.step: (after.clock_s - before.clock_s, after.cpu_s - before.cpu_s)
        for before, after in itertools.pairwise(done)
    }


def until(coordinator: Coordinator, deletion_id: str, status: Status) -> None:
    """Return once the deletion is there; what came before it counts as passed."""
    wait(lambda: coordinator.deletion(deletion_id).status in (status, "completed"))


def between(before: str | None, after: str | None) -> float:
    """Seconds between two times of a deletion."""
    assert before is not None and after is not None
    return (datetime.fromisoformat(after) - datetime.fromisoformat(before)).total_seconds()


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """Median, largest, and the 99th of a hundred where there are so many."""
    p99 = sorted(values)[math.ceil(0.99 * len(values)) - 1] if len(values) >= 100 else None
    return {
        "median": round(statistics.median(values), 3),
        "p99": round(p99, 3) if p99 is not None else None,
        "max": round(max(values), 3),
    }


if __name__ == "__main__":
    sys.addaudithook(note)
    main()
