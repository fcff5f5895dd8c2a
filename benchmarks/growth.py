"""What does a deletion cost as rows grow?

By the formulas of ``lmeraser.baselines``, at the passes of the configuration. Ours follows from the partition alone:
rows are drawn with replacement from the anchors that real rows have, each of a subject of its own, and the partition is
made over them, up to ten million rows. The published clusters keep their shares of the rows. Writes ``growth.json`` and
``.svg``.

    python benchmarks/growth.py --data ../shared/data --out /tmp/bench

Legend: N rows, A anchors.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from contest import Entry, arena, method_of
from drawing import COLOURS, DOCS, NAMES, axes, save

from lmeraser.baselines.part import tuning_row_passes
from lmeraser.baselines.sisa import stage_epochs
from lmeraser.state.pipeline import Pipeline

ROWS = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 200_000, 1_000_000, 10_000_000)
REAL_ROWS = 2_000
SLICES = 3
PUBLISHED_CLUSTERS = 5
SAMPLED_ROWS = 300


def main() -> None:
    """Work out, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, required=True, help="folder in which public artifacts are kept")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the figure")
    parser.add_argument("--arena", default="mnist")
    parser.add_argument("--most", type=int, default=ROWS[-1], help="leave out larger numbers of rows")
    arguments = parser.parse_args()
    place = arena(arguments.arena, arguments.data, None, None)
    pipeline = method_of(place, arguments.out, 0, Entry("ours"))
    real = pipeline.rows(place.drawn(place.config.private, place.labels, REAL_ROWS, 0))
    counts = [rows for rows in ROWS if rows <= arguments.most]
    draw([costs(pipeline, real.anchors_N, rows) for rows in counts], place.name, arguments.docs)


def costs(pipeline: Pipeline, anchors_N: np.ndarray, rows: int) -> dict[str, Any]:
    """Expected row-passes of deleting one row, by method."""
    drawn = np.random.default_rng(rows)
    bits_N = drawn.integers(0, 2**64, rows, np.uint64)
    found = pipeline.partition(drawn.choice(anchors_N, rows), bits_N).clusters
    counts_K = np.array([cluster.rows for cluster in found], np.float64)
    tuned_K = np.array([pipeline.config.tunes(cluster.rows) for cluster in found])
    per_row = tuning_row_passes(pipeline, 1) + 1
    shards = {f"sisa {count}": sisa(pipeline, rows, count) for count in (5, 20)}
    return {
        "rows": rows,
        "clusters": len(found),
        "largest_cluster": int(counts_K.max()),
        "ours": float((counts_K / rows * (counts_K - 1) * tuned_K).sum() * per_row),
        "retrain": (rows - 1) * per_row,
        **shards,
        "published": tuning_row_passes(pipeline, 1) * rows / PUBLISHED_CLUSTERS,
        "sampled": min(rows, SAMPLED_ROWS) / rows * (tuning_row_passes(pipeline, min(rows, SAMPLED_ROWS)) + rows),
        "ridge": 0.0,
    }


def sisa(pipeline: Pipeline, rows: int, shards: int) -> float:
    """The formula of ``lmeraser.baselines.sisa``."""
    stage = tuning_row_passes(pipeline, 1, stage_epochs(pipeline.config.tuning.epochs, SLICES))
    again = (SLICES + 1) * (2 * SLICES + 1) / 6
    return stage * rows / (shards * SLICES) * again + rows / shards


def draw(found: list[dict[str, Any]], name: str, docs: Path) -> None:
    """Cost by rows, both on logarithmic scales."""
    drawn, (plot,) = axes(1)
    rows = [one["rows"] for one in found]
    for key, style in (
        ("retrain", "-"),
        ("sisa 5", "-"),
        ("sisa 20", "--"),
        ("published", "-"),
        ("sampled", "-"),
        ("ours", "-"),
    ):
        method = key.partition(" ")[0]
        said = f"{NAMES[method]}, S = {key.partition(' ')[2]}" if method == "sisa" else NAMES[method]
        plot.plot(rows, [one[key] for one in found], color=COLOURS[method], linestyle=style, marker=".", label=said)
    plot.set_xscale("log")
    plot.set_yscale("log")
    plot.set_title(f"anchors of {name}; ridge only: none")
    plot.set_xlabel("rows")
    plot.set_ylabel("expected row-passes of a deletion")
    plot.legend(fontsize=7)
    save(drawn, {"arena": name, "points": found}, "growth", docs)


if __name__ == "__main__":
    main()
