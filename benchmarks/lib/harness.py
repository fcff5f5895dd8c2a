"""Runs methods on the same backbone, rows and seed, one process per run, and keeps the results in files.

A result is one JSON file under the output folder. A result that exists is read and not made again, so an interrupted
benchmark continues.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lib.accuracy import measure_accuracy, replica_work, unexplained
from benchmarks.lib.deletion_cost import cluster_rows, draw_ids, expected_row_passes, row_passes_of_requests
from benchmarks.lib.methods import Run, fit
from benchmarks.lib.pipelines import open_pipeline
from benchmarks.lib.settings import Setting
from lmeraser.baselines import measured
from lmeraser.state.fingerprint import accelerator_name

Result = dict[str, Any]

# Seconds of one deletion are measured with one seed; its expected row-passes are worked out with each.
_TIMED_DELETIONS, _TIMED_SEED = 1, 0
# A whole number of batches, so that no row only fills one.
_SERVED_IMAGES = 256


def results(
    setting: Setting, runs: Iterable[Run], seeds: Iterable[int], folder: Path, deleted_share: float = 0.0
) -> list[Result]:
    """The result of every run at every seed; each missing one is made in a process of its own.

    Args:
        setting: rows and backbone.
        runs: methods with their options.
        seeds: each draws rows and everything else.
        folder: where results are kept.
        deleted_share: share of the rows that is deleted, one request after the other.
    """
    collected = []
    context = multiprocessing.get_context("spawn")
    without = f"-without_{deleted_share}" if deleted_share else ""
    kept = folder / "results" / f"{setting.results_key}-{setting.rows}{without}"
    for seed in seeds:
        for run in runs:
            file = kept / f"{run.name}-{seed}.json"
            if not file.exists():
                with ProcessPoolExecutor(1, context) as worker:
                    result = worker.submit(measure, setting, run, seed, folder, deleted_share).result()
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(json.dumps(result, indent=1))
                print(json.dumps(summary_line(result)), flush=True)
            collected.append(json.loads(file.read_text()))
    return collected


def summary_line(result: Result) -> Result:
    """The figures of a result that fit on one line."""
    names = ("arena", "seed", "entry", "accuracy", "expected_row_passes")
    return {**{name: result[name] for name in names}, "fit_s": round(result["fit"]["wall_s"], 1)}


def measure(setting: Setting, run: Run, seed: int, folder: Path, deleted_share: float) -> Result:
    """Fit, answer the test rows, work out what deletions cost, and do one."""
    pipeline = open_pipeline(setting, folder, seed, run)
    train, test = setting.training_rows(seed), setting.test_samples(seed)
    removed = frozenset(draw_ids(train, round(deleted_share * len(train)), seed))
    remaining = [sample for sample in train if sample.sample_id not in removed]
    if run.method == "published":
        # Its deletions do not lead to the state of a fresh fit.
        fitted, cost = measured(pipeline.backbone, lambda: fit(run, pipeline, setting, train).without(removed))
    else:
        fitted, cost = measured(pipeline.backbone, lambda: fit(run, pipeline, setting, remaining))
    images_N3PP = pipeline.decode([sample.image for sample in test])
    accuracy = measure_accuracy(fitted, images_N3PP, np.array([sample.label for sample in test]))
    _, serving = measured(pipeline.backbone, replica_work(fitted, images_N3PP[:_SERVED_IMAGES]))
    deletions = []
    if run.method != "retrain" and seed == _TIMED_SEED:
        deletions = [
            asdict(measured(pipeline.backbone, partial(fitted.without, [name]))[1])
            for name in draw_ids(remaining, _TIMED_DELETIONS, seed)
        ]
    # The keys of all earlier results.
    return {
        "arena": setting.name,
        "seed": seed,
        "entry": run.name,
        "method": run.method,
        "settings": dict(run.options),
        "rows": len(remaining),
        "test_rows": len(test),
        "epochs": pipeline.config.tuning.epochs,
        "image_px": pipeline.backbone.image_px,
        "accuracy": accuracy,
        "unexplained": unexplained(fitted),
        "fit": asdict(cost),
        "serving": {**asdict(serving), "images": min(_SERVED_IMAGES, len(test))},
        "deletion": deletions,
        "expected_row_passes": expected_row_passes(fitted, remaining),
        "row_passes_of_requests": row_passes_of_requests(fitted, remaining, seed),
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
