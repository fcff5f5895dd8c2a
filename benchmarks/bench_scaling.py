"""What does a deletion cost as the number of rows grows?

By the formulas of ``lmeraser.baselines``, at the epochs of the configuration. Ours follows from the partition alone:
rows are drawn with replacement from the anchors of real rows, each row of a subject of its own, and partitioned, up to
ten million rows. The published clusters keep their shares of the rows. Writes ``growth.json`` and ``.svg``.

    python -m benchmarks.bench_scaling --data ../shared/data --out /tmp/bench

Legend: N rows, K clusters.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lib.pipelines import open_pipeline
from benchmarks.lib.plotting import COLOURS, DOCS, MARKERS, NAMES, one_legend, plots_in_a_row, save
from benchmarks.lib.runs import OURS
from benchmarks.lib.settings import SIZES, find_setting
from lmeraser.baselines.part import tuning_row_passes
from lmeraser.baselines.sisa import stage_epochs
from lmeraser.state.pipeline import Pipeline

ROWS = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 200_000, 1_000_000, 10_000_000)
REAL_ROWS = 2_000
SLICES = 3
PUBLISHED_CLUSTERS = 5
SAMPLED_ROWS = 300
# Key of the result, method, and line.
LINES = (
    ("retrain", "retrain", "-"),
    ("sisa 5", "sisa", "-"),
    ("sisa 20", "sisa", "--"),
    ("published", "published", "-"),
    ("sampled", "sampled", "-"),
    ("ours", "ours", "-"),
    ("ours at worst", "ours", "--"),
)
# What a line's label has after the method's name.
LABELS = {"sisa 5": ", S = 5", "sisa 20": ", S = 20", "ours at worst": ", worst deletion"}


def main() -> None:
    """Work out, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, required=True, help="folder in which public artifacts are kept")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the figure")
    parser.add_argument("--setting", default="mnist", choices=list(SIZES))
    parser.add_argument("--max-rows", type=int, default=ROWS[-1], help="leave out larger numbers of rows")
    arguments = parser.parse_args()
    setting = find_setting(arguments.setting, arguments.data)
    pipeline = open_pipeline(setting, arguments.out, 0, OURS)
    real = pipeline.rows(setting.draw_rows(setting.config.private, REAL_ROWS, 0))
    points = [costs(pipeline, real.anchors_N, rows) for rows in ROWS if rows <= arguments.max_rows]
    draw(points, setting.name, arguments.docs)


def costs(pipeline: Pipeline, anchors_N: np.ndarray, rows: int) -> dict[str, Any]:
    """Expected row-passes of deleting one row, by method."""
    generator = np.random.default_rng(rows)
    bits_N = generator.integers(0, 2**64, rows, np.uint64)
    clusters = pipeline.partition(generator.choice(anchors_N, rows), bits_N).clusters
    counts_K = np.array([cluster.rows for cluster in clusters], np.float64)
    tuned_K = np.array([pipeline.config.tunes(cluster.rows) for cluster in clusters])
    coreset_K = np.minimum(counts_K, pipeline.config.tuning.coreset_rows)
    per_tuned_row = tuning_row_passes(pipeline, 1)
    costs_K = (coreset_K * per_tuned_row + counts_K - 1) * tuned_K
    sampled_rows = min(rows, SAMPLED_ROWS)
    return {
        "rows": rows,
        "clusters": len(clusters),
        "largest_cluster": int(counts_K.max()),
        "ours": float((coreset_K / rows * costs_K).sum()),
        "ours at worst": float(costs_K.max()),
        "retrain": (rows - 1) * (per_tuned_row + 1),
        **{f"sisa {shards}": sisa_cost(pipeline, rows, shards) for shards in (5, 20)},
        "published": per_tuned_row * rows / PUBLISHED_CLUSTERS,
        "sampled": sampled_rows / rows * (sampled_rows * per_tuned_row + rows - 1),
        "ridge": 0.0,
    }


def sisa_cost(pipeline: Pipeline, rows: int, shards: int) -> float:
    """The formula of ``lmeraser.baselines.sisa``."""
    stage = tuning_row_passes(pipeline, 1, stage_epochs(pipeline.config.tuning.epochs, SLICES))
    repeated = (SLICES + 1) * (2 * SLICES + 1) / 6
    return stage * rows / (shards * SLICES) * repeated + rows / shards


def draw(points: list[dict[str, Any]], setting: str, docs: Path) -> None:
    """Cost by rows, both on logarithmic scales."""
    figure, (plot,) = plots_in_a_row(1, width=9.0, height=4.2)
    rows = [point["rows"] for point in points]
    for key, method, style in LINES:
        label = NAMES[method] + ("" if key == method else LABELS[key])
        costs_by_rows = [point[key] for point in points]
        plot.plot(
            rows, costs_by_rows, color=COLOURS[method], linestyle=style, marker=MARKERS[method], ms=5, label=label
        )
    plot.set_xscale("log")
    plot.set_yscale("log")
    plot.set_title(f"anchors of {setting}; {NAMES['ridge']}: no pass")
    plot.set_xlabel("rows")
    plot.set_ylabel("expected row-passes of a deletion")
    one_legend(figure, [plot])
    save(figure, {"arena": setting, "points": points}, "growth", docs)


if __name__ == "__main__":
    main()
