"""Runs methods on the same backbone, rows and seed, and keeps the results in files.

A result is one JSON file under the output folder. A result that exists is read and not made again, so an interrupted
benchmark continues. All runs of a setting and seed share a workload: what they have in common is computed once, so a
run's own cost has no plain pass of the rows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable
from dataclasses import asdict
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.lib.accuracy import measure_accuracy, replica_work, unexplained
from benchmarks.lib.deletion_cost import cluster_rows, draw_ids, row_passes_of_one_row, row_passes_of_requests
from benchmarks.lib.methods import fit
from benchmarks.lib.run import Run
from benchmarks.lib.settings import Setting
from benchmarks.lib.workload import Workload
from lmeraser.baselines import measured
from lmeraser.state.fingerprint import accelerator_name

Result = dict[str, Any]

# Seconds of one deletion are measured with one seed; its expected row-passes are worked out with each.
_TIMED_DELETIONS, _TIMED_SEED = 1, 0
# A whole number of batches, so that no row only fills one.
_SERVED_IMAGES = 256


def results(
    setting: Setting,
    runs: Collection[Run],
    seeds: Iterable[int],
    folder: Path,
    deleted_share: float = 0.0,
    *,
    with_work: bool = True,
) -> list[Result]:
    """The result of every run at every seed; missing ones are made.

    Args:
        setting: rows and backbone.
        runs: methods with their options.
        seeds: each draws rows and everything else.
        folder: where results are kept.
        deleted_share: share of the rows that is deleted, one request after the other.
        with_work: whether to count and time a deletion and answers too, at one seed.
    """
    collected = []
    workload: Workload | None = None
    without = f"-without_{deleted_share}" if deleted_share else ""
    kept = folder / "results" / f"{setting.results_key}-{setting.rows}{without}"
    for seed in seeds:
        for run in runs:
            file = kept / f"{run.name}-{seed}.json"
            if not file.exists():
                if workload is None or not workload.serves(setting, seed, run):
                    workload = Workload.prepare(setting, seed, run, folder)
                result = measure(workload, run, deleted_share, with_work=with_work)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(json.dumps(result, indent=1))
                print(json.dumps(summary_line(result)), flush=True)
            collected.append(json.loads(file.read_text()))
    return collected


def summary_line(result: Result) -> Result:
    """The figures of a result that fit on one line."""
    names = ("arena", "rows", "seed", "entry", "accuracy", "row_passes_of_one_row")
    return {**{name: result[name] for name in names}, "fit_s": round(result["fit"]["wall_s"], 1)}


def measure(workload: Workload, run: Run, deleted_share: float, *, with_work: bool) -> Result:
    """Fit, answer the test rows, and work out what deletions cost; with ``with_work``, do one and time answers."""
    setting, seed, pipeline = workload.setting, workload.seed, workload.pipeline_of(run)
    removed = draw_ids(workload.train, round(deleted_share * len(workload.train)), seed)
    remaining = workload.without(removed)
    if run.method == "published":
        # Its deletions do not lead to the state of a fresh fit.
        fitted, cost = measured(pipeline.backbone, lambda: fit(run, workload).without(removed))
    else:
        fitted, cost = measured(pipeline.backbone, lambda: fit(run, remaining))
    accuracy = measure_accuracy(fitted, workload.test_images_N3PP, workload.test_labels_N)
    deletions, serving = [], {}
    if with_work and seed == _TIMED_SEED:
        images_N3PP = workload.test_images_N3PP[:_SERVED_IMAGES]
        serving = {
            **asdict(measured(pipeline.backbone, replica_work(fitted, images_N3PP))[1]),
            "images": len(images_N3PP),
        }
        if run.method != "retrain":
            names = draw_ids(remaining.train, _TIMED_DELETIONS, seed)
            deletions = [asdict(measured(pipeline.backbone, partial(fitted.without, [name]))[1]) for name in names]
    # The keys of all earlier results.
    return {
        "arena": setting.name,
        "seed": seed,
        "entry": run.name,
        "method": run.method,
        "settings": dict(run.options),
        "rows": len(remaining.train),
        "test_rows": len(workload.test),
        "epochs": pipeline.config.tuning.epochs,
        "image_px": pipeline.backbone.image_px,
        "accuracy": accuracy,
        "unexplained": unexplained(fitted),
        "fit": asdict(cost),
        "serving": serving,
        "deletion": deletions,
        "row_passes_of_one_row": row_passes_of_one_row(fitted, remaining.train),
        "row_passes_of_requests": row_passes_of_requests(fitted, remaining.train, seed),
        "clusters": cluster_rows(fitted),
        "gpu": accelerator_name(setting.config.backbone),
        **machine(),
    }


def machine() -> dict[str, Any]:
    """Date and machine of a figure."""
    return {
        "date": datetime.now().date().isoformat(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
    }
