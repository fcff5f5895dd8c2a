"""What does a deletion cost: seconds until erased and until completed, tunings, and rows passed?

The coordinator's own class, stepped by a thread as its Ray actor does it, over a store on the local disk; owners run in
the same process (no Ray). Configuration and features are the demo's. Prints one JSON object for each figure. Takes
about 20 minutes on two cores; ``--quick`` takes a minute, and its figures say nothing.

    python -m benchmarks.bench_deletions --out /tmp/deletions

Where tuning is not timed, a stand-in writes a specialist of the same size at once.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import shutil
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lib.background import wait_until
from benchmarks.lib.durations import seconds_between, spread
from benchmarks.lib.erasure import erase_one_by_one, note_steps, wait_for_status
from benchmarks.lib.harness import machine
from benchmarks.lib.settings import DIGITS_CONFIG
from benchmarks.lib.synthetic_stores import (
    DigitStore,
    commits,
    copy_of,
    digit_samples,
    fill,
    lease_of,
    row_table,
    running_coordinator,
    stand_in,
    untrained_artifacts,
)
from lmeraser.config import StateConfig, load_config
from lmeraser.data import open_source
from lmeraser.deletion import DeletionRequest
from lmeraser.state.keys import init_keys
from lmeraser.state.public_artifacts import create_store
from lmeraser.store import LocalStore


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the stores; replaced if it exists")
    parser.add_argument("--quick", action="store_true", help="few rows, few repetitions")
    arguments = parser.parse_args()
    note_steps()
    shutil.rmtree(arguments.out, ignore_errors=True)
    # The coordinator's own process has no torch: what belongs to it is kept out of garbage collections here.
    gc.collect()
    gc.freeze()
    for figure in figures(arguments.out, arguments.quick):
        print(json.dumps({**figure, **machine()}), flush=True)


def figures(out: Path, quick: bool) -> Iterator[dict[str, Any]]:
    """All figures, the long ones last."""
    sizes: tuple[int, ...] = (1_000, 2_000) if quick else (1_000, 10_000, 50_000)
    repetitions = {1: 5, 10: 3, 1000: 1} if quick else {1: 100, 10: 100, 1000: 5}
    requests = 20 if quick else 1_000
    config = load_config(DIGITS_CONFIG)
    state_config = config.state(open_source(config.private).labels)
    artifacts = untrained_artifacts(state_config, config)
    one_cluster = replace(state_config, partition=replace(state_config.partition, max_cluster_rows=2_000))

    def empty(name: str, of: StateConfig = state_config) -> Path:
        create_store(LocalStore(out / name / "store"), of, artifacts)
        init_keys(out / name / "keys")
        return out / name

    table = row_table(DigitStore(empty("features")).pipeline, digit_samples(config, sizes[-1]))

    def holding(rows: int, of: StateConfig = state_config) -> DigitStore:
        name = f"{rows}-rows-in-clusters-of-{of.partition.max_cluster_rows}"
        return fill(empty(name, of), table.where(np.arange(len(table)) < rows))

    small, middle = holding(sizes[0]), holding(sizes[1])
    yield from (erase_one_by_one(small, ids, count) for ids, count in repetitions.items())
    yield from (erase_one_by_one(middle, ids, count) for ids, count in repetitions.items())
    yield tunings_of_requests(middle, requests, together=True)
    yield tunings_of_requests(middle, requests, together=False)
    yield tunings_of_requests(holding(2_000, one_cluster), requests, together=True)
    yield complete_one_by_one(small, 1, 1 if quick else 10)
    yield complete_one_by_one(small, 10, 1 if quick else 3)
    if not quick:
        large = holding(sizes[2])
        yield from (erase_one_by_one(large, ids, count) for ids, count in repetitions.items())
        yield complete_one_by_one(large, 1, 10)
        yield complete_one_by_one(middle, 1000, 1)


def complete_one_by_one(store: DigitStore, ids: int, count: int) -> dict[str, Any]:
    """From erased to completed with real tunings, one after the other, each deletion on a copy of its own."""
    pipeline = store.pipeline
    durations_s: list[float] = []
    tunings: list[int] = []
    for number in range(count):
        with copy_of(store) as folder, running_coordinator(folder, pipeline, lease_of(folder)) as coordinator:
            deletion = coordinator.delete(DeletionRequest(tuple(random.Random(number).sample(store.sample_ids, ids))))
            wait_for_status(coordinator, deletion.id, "completed")
            deletion = coordinator.deletion(deletion.id)
            durations_s.append(seconds_between(deletion.erased_at, deletion.completed_at))
            tunings.append(coordinator.status().tunings)
    return {
        "figure": "erased to completed",
        "rows": len(store.sample_ids),
        "ids": ids,
        "n": count,
        "erased_to_completed_s": spread(durations_s),
        "mean_tunings": statistics.mean(tunings),
    }


def tunings_of_requests(store: DigitStore, requests: int, together: bool) -> dict[str, Any]:
    """Tunings that deletions of one row each cost: sent at once, or each after the previous one is completed."""
    pipeline = stand_in(store.pipeline)
    with copy_of(store) as folder:
        lease_s = lease_of(folder) if together else 0.0
        with running_coordinator(folder, pipeline, lease_s) as coordinator:
            clusters = coordinator.status().clusters
            begun = time.monotonic()
            for name in random.Random(0).sample(store.sample_ids, requests):
                coordinator.delete(DeletionRequest((name,)))
                if not together:
                    wait_until(coordinator.idle)
            sending_s = time.monotonic() - begun
            wait_until(coordinator.idle)
            deletions = coordinator.deletions()
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
