"""What does a deletion cost: seconds until erased and until completed, row-passes, and tunings?

A deletion is of two kinds: of rows outside every coreset, which needs no pass, and of a coreset row, after which the
cluster is tuned again. The coordinator's own class, stepped by a thread as its Ray actor does it, over a store on the
local disk; owners run in the same process (no Ray). Configuration and features are the demo's, with clusters and
coresets of the default size. Prints one JSON object for each figure. Takes about 20 minutes on two cores; ``--quick``
takes two minutes, and its figures say nothing.

    python -m benchmarks.bench_deletions --out /tmp/deletions --sizes 1000 10000 50000 --deletions 100

Where tuning is not timed, a stand-in gives a prompt and features of the same size at once.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from actors.coordinator import Coordinator
from benchmarks.lib.background import wait_until
from benchmarks.lib.durations import seconds_between, spread
from benchmarks.lib.erasure import erase_one_by_one, note_steps, wait_for_status
from benchmarks.lib.harness import machine
from benchmarks.lib.settings import DIGITS_CONFIG
from benchmarks.lib.synthetic_stores import (
    DigitStore,
    commits,
    copy_of,
    coreset_ids,
    digit_samples,
    fill,
    lease_of,
    row_table,
    running_coordinator,
    stand_in,
    untrained_artifacts,
)
from lmeraser.baselines import measured
from lmeraser.config import PartitionConfig, load_config
from lmeraser.data import open_source
from lmeraser.deletion import Deletion, DeletionRequest
from lmeraser.state.keys import init_keys
from lmeraser.state.public_artifacts import create_store
from lmeraser.store import LocalStore


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the stores; replaced if it exists")
    parser.add_argument("--sizes", nargs="+", type=int, default=[1_000, 10_000, 50_000], help="rows of the stores")
    parser.add_argument("--deletions", type=int, default=100, help="of each kind; a p99 needs 100")
    parser.add_argument("--requests", type=int, default=1_000, help="of one row each, by which tunings are counted")
    parser.add_argument("--quick", action="store_true", help="few rows, few repetitions")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.sizes, arguments.deletions, arguments.requests = [1_000], 3, 10
    note_steps()
    shutil.rmtree(arguments.out, ignore_errors=True)
    # The coordinator's own process has no torch: what belongs to it is kept out of garbage collections here.
    gc.collect()
    gc.freeze()
    for figure in figures(arguments.out, arguments.sizes, arguments.deletions, arguments.requests):
        print(json.dumps({**figure, **machine()}), flush=True)


def figures(out: Path, sizes: Sequence[int], deletions: int, requests: int) -> Iterator[dict[str, Any]]:
    """All figures, by the number of rows."""
    config = load_config(DIGITS_CONFIG)
    config = replace(config, partition=replace(config.partition, max_cluster_rows=PartitionConfig().max_cluster_rows))
    state_config = config.state(open_source(config.private).labels)
    artifacts = untrained_artifacts(state_config, config)

    def empty(name: str) -> Path:
        create_store(LocalStore(out / name / "store"), state_config, artifacts)
        init_keys(out / name / "keys")
        return out / name

    table = row_table(DigitStore(empty("features")).pipeline, digit_samples(config, max(sizes)))
    for rows in sizes:
        store = fill(empty(f"{rows}-rows"), table.where(np.arange(len(table)) < rows))
        coreset = coreset_ids(store)
        outside = sorted(set(store.sample_ids).difference(coreset))
        for kind, among in (("outside the coresets", outside), ("coreset row", coreset)):
            yield {"kind": kind, **erase_one_by_one(store, 1, deletions, among)}
            yield {"kind": kind, **complete_one_by_one(store, among, max(1, deletions // 10))}
        yield {"kind": "any", **erase_one_by_one(store, 10, deletions)}
        yield {"kind": "any", **erase_one_by_one(store, min(1_000, rows), max(1, deletions // 20))}
        yield tunings_of_requests(store, requests, together=True)
        yield tunings_of_requests(store, requests, together=False)


def complete_one_by_one(store: DigitStore, among: Sequence[str], count: int) -> dict[str, Any]:
    """From erased to completed with real tunings, one row each, each deletion on a copy of its own."""
    pipeline = store.pipeline
    tuning = pipeline.config.tuning
    durations_s: list[float] = []
    passes: list[dict[str, float]] = []
    for number in range(count):
        with copy_of(store) as folder, running_coordinator(folder, pipeline, lease_of(folder)) as coordinator:
            request = DeletionRequest((random.Random(number).choice(among),))
            deletion, cost = measured(pipeline.backbone, partial(delete_completely, coordinator, request))
            durations_s.append(seconds_between(deletion.erased_at, deletion.completed_at))
            rows = sum(entry.rows for entry in commits(folder)[-1].clusters if entry.key in deletion.clusters)
            bound = 2 * tuning.epochs * min(rows, tuning.coreset_rows) + rows
            passes.append({"counted": cost.row_passes, "2em + n": bound})
    return {
        "figure": "erased to completed",
        "rows": len(store.sample_ids),
        "n": count,
        "erased_to_completed_s": spread(durations_s),
        "row_passes": passes,
    }


def delete_completely(coordinator: Coordinator, request: DeletionRequest) -> Deletion:
    """Delete, and wait until the deletion is completed."""
    deletion = coordinator.delete(request)
    wait_for_status(coordinator, deletion.id, "completed")
    return coordinator.deletion(deletion.id)


def tunings_of_requests(store: DigitStore, requests: int, together: bool) -> dict[str, Any]:
    """Tunings that deletions of one row each cost: sent at once, or each after the previous one is completed."""
    pipeline = stand_in(store.pipeline)
    with copy_of(store) as folder:
        lease_s = lease_of(folder) if together else 0.0
        with running_coordinator(folder, pipeline, lease_s) as coordinator:
            clusters = coordinator.status().clusters
            begun = time.monotonic()
            ids = []
            for name in random.Random(0).sample(store.sample_ids, requests):
                ids.append(coordinator.delete(DeletionRequest((name,))).id)
                if not together:
                    wait_until(coordinator.idle)
            sending_s = time.monotonic() - begun
            wait_until(coordinator.idle)
            deletions = [coordinator.deletion(deletion_id) for deletion_id in ids]
            erased_s = spread([seconds_between(deletion.accepted_at, deletion.erased_at) for deletion in deletions])
            return {
                "figure": "tunings",
                "rows": len(store.sample_ids),
                "requests": requests,
                "sent": "at once" if together else "each after the one before is completed",
                "clusters": clusters,
                "tunings": coordinator.status().tunings,
                "commits_that_erase": sum(bool(commit.requests) for commit in commits(folder)),
                "sending_s": round(sending_s, 1) if together else None,
                "accepted_to_erased_s": erased_s if together else None,
            }


if __name__ == "__main__":
    main()
