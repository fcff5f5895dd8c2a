"""From kept results to the rows of a page: the values of every seed, by run."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lib.run import Run
from benchmarks.lib.settings import Setting
from lmeraser.baselines.sisa import stage_epochs

Summary = dict[str, Any]

_OF_THE_RUN = ("entry", "method", "settings", "rows", "test_rows", "epochs", "image_px", "cores", "gpu")


def kept_results(setting: Setting, folder: Path) -> list[dict[str, Any]]:
    """The results that the folder has of this setting, by run and seed."""
    kept = folder / "results" / f"{setting.results_key}-{setting.rows}"
    results = [json.loads(file.read_text()) for file in sorted(kept.glob("*.json"))]
    return sorted(results, key=lambda result: (result["entry"], result["seed"]))


def summaries(results: list[dict[str, Any]]) -> list[Summary]:
    """One summary for each run."""
    by_run: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for result in results:
        by_run[result["entry"]].append(result)
    return [_summary(group) for group in by_run.values()]


def _summary(group: list[dict[str, Any]]) -> Summary:
    first = group[0]
    return {
        **{name: first[name] for name in _OF_THE_RUN},
        "seeds": [result["seed"] for result in group],
        "accuracy": _by_seed([result["accuracy"] for result in group]),
        "unexplained": _by_seed([result["unexplained"] for result in group]),
        "row_passes_of_one_row": _by_seed([result["row_passes_of_one_row"] for result in group]),
        "row_passes_of_requests": {
            name: float(np.mean([result["row_passes_of_requests"][name] for result in group]))
            for name in first["row_passes_of_requests"]
        },
        "clusters": [result["clusters"] for result in group],
        "fit": first["fit"],
        "dates": sorted({result["date"] for result in group}),
        "load": max(result["load"] for result in group),
    }


def _by_seed(values: list[dict[str, float]]) -> dict[str, list[float]]:
    return {name: [value[name] for value in values] for name in values[0]}


def of_run(run: Run, rows: list[Summary]) -> Summary | None:
    """The summary of this run; None where there is none."""
    return next((row for row in rows if row["entry"] == run.name), None)


def points_over(row: Summary, other: Summary) -> list[float]:
    """Points of accuracy of a run over another, seed by seed; only seeds that both have."""
    known = dict(zip(other["seeds"], other["accuracy"]["accuracy"], strict=True))
    own = zip(row["seeds"], row["accuracy"]["accuracy"], strict=True)
    return [100 * (value - known[seed]) for seed, value in own if seed in known]


def points_over_shared(row: Summary, rows: list[Summary]) -> list[float]:
    """Points over the shared head alone, seed by seed, on the same public artifacts."""
    if "shared" in row["accuracy"]:
        own = zip(row["accuracy"]["accuracy"], row["accuracy"]["shared"], strict=True)
        return [100 * (value - other) for value, other in own]
    # Earlier results have public artifacts of their own for each seed.
    shared = [other for other in rows if other["method"] == "ridge" and ("earlier" in other) == ("earlier" in row)]
    return points_over(row, shared[0]) if shared else []


def cost_of_retrain(row: Summary) -> float:
    """Row-passes of a deletion by retraining this run's rows, with tokens or frames that enter at the first block."""
    return float((row["rows"] - 1) * (2 * row["epochs"] + 1))


def cost_of_sisa(row: Summary, shards: int = 5, slices: int = 3) -> float:
    """Expected row-passes of a deletion with SISA, by the formula of ``lmeraser.baselines.sisa``."""
    return _sisa(row, shards, slices, (slices + 1) * (2 * slices + 1) / 6)


def worst_cost_of_sisa(row: Summary, shards: int = 5, slices: int = 3) -> float:
    """The same of a row in a shard's first slice, which every stage of the shard has seen."""
    return _sisa(row, shards, slices, slices * (slices + 1) / 2)


def _sisa(row: Summary, shards: int, slices: int, repeated: float) -> float:
    """Row-passes by how many slices' worth of rows the repeated stages have."""
    stage = 2 * stage_epochs(row["epochs"], slices) / (shards * slices)
    return float(row["rows"] * (stage * repeated + 1 / shards))
