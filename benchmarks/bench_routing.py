"""Which block should route? Balance of the clusters, and accuracy, with routing features of several blocks.

On each data set, at 1, 2, L/4, L/2 and L of the backbone's L blocks: anchors are fitted to public routing features of
that block, the rows are divided into clusters of at most a third of them, and each cluster is tuned on its coreset.
*Balance* is the number of clusters and the largest one's share of the rows; *accuracy* is that of the pooled head and
of the shared head on the test rows (an image of a cluster without a prompt is answered by the shared head). The shared
head is the same for all blocks. One seed.

    python -m benchmarks.bench_routing --data ../shared/data --out /tmp/routing [--only gtsrb] [--balance] [--docs]

Each result is a file under ``--out``; one that exists is kept. ``--docs`` writes docs/benchmarks/routing.json.

Legend: N rows, P pixels per side, R routing features.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.lib.harness import machine
from benchmarks.lib.pipelines import open_pipeline
from benchmarks.lib.plotting import DOCS
from benchmarks.lib.run import Run
from benchmarks.lib.settings import find_setting
from lmeraser.baselines import ClusterPrompts
from lmeraser.data import Sample, open_public
from lmeraser.hashing import row_bits
from lmeraser.learning.anchors import AnchorIndex, fit_anchors
from lmeraser.learning.backbone import VitBackbone
from lmeraser.learning.heads import blend
from lmeraser.learning.numerics import deterministic, in_fixed_batches
from lmeraser.learning.partition import Dendrogram
from lmeraser.learning.prompts import prompt_kind
from lmeraser.state.pipeline import Pipeline, chunks
from lmeraser.state.rows import RowTable

# Rows of each data set; test rows as everywhere.
ROWS = {"gtsrb": 2000, "digits": 600, "cifar10": 1000, "mnist": 5000}
SEED = 0
CORESET_ROWS = 300
# A cluster holds at most the rows divided by this.
DIVISOR = 3
_CHUNK = 256


def main() -> None:
    """Make what is missing, the cheap results first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with private/, public/ and weights/")
    parser.add_argument("--out", type=Path, required=True, help="folder of results; made if it is missing")
    parser.add_argument("--only", choices=ROWS, action="append", help="these data sets; all when absent")
    parser.add_argument("--balance", action="store_true", help="leave out accuracy, which needs tunings")
    parser.add_argument("--docs", action="store_true", help="write docs/benchmarks/routing.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.only or ROWS:
        compare_blocks(name, arguments.data, arguments.out, arguments.balance)
    if arguments.docs:
        (DOCS / "routing.json").write_text(json.dumps(collected(arguments.out), indent=1) + "\n")


def compare_blocks(name: str, data: Path, out: Path, balance_only: bool) -> None:
    """The missing results of one data set."""
    setting = find_setting(name, data, rows=ROWS[name])
    pipeline = open_pipeline(setting, out, SEED, Run("ours", (("bound", ROWS[name] // DIVISOR),)))
    tuning = replace(pipeline.config.tuning, coreset_rows=CORESET_ROWS)
    pipeline = replace(pipeline, config=replace(pipeline.config, tuning=tuning))
    assert isinstance(pipeline.backbone, VitBackbone)
    blocks = blocks_of(pipeline.backbone)
    rows, test = setting.training_rows(SEED), setting.test_samples(SEED)
    public = open_public(setting.config.public)
    routing_of = {
        part: routing_features(pipeline, samples, blocks, out / f"routing-{name}-{part}.npz")
        for part, samples in (("public", list(public.samples(public.labels))), ("private", rows))
    }
    table: RowTable | None = None
    for block in blocks:
        routed = routed_by(pipeline, routing_of["public"][block], block)
        anchors_N = routed.anchor_index.nearest(routing_of["private"][block])
        file = out / "results" / f"{name}-{block}-balance.json"
        write_once(file, partial(balance, routed, rows, anchors_N))
        file = out / "results" / f"{name}-{block}-accuracy.json"
        if balance_only or file.exists():
            continue
        table = table or pipeline.rows(rows)
        own = replace(table, anchors_N=anchors_of(table, rows, anchors_N))
        write_once(file, partial(accuracy, routed, own, test))


def blocks_of(backbone: VitBackbone) -> list[int]:
    """1, 2, L/4, L/2 and L of its L blocks."""
    count = backbone.block_count
    return sorted({1, 2, max(1, count // 4), count // 2, count})


def write_once(file: Path, result: Callable[[], dict[str, Any]]) -> None:
    """Write what ``result()`` gives with date and machine, unless the file exists."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**result(), **machine()}, indent=1)
        file.write_text(text)
        print(file.stem, text.replace("\n", ""), flush=True)


def routing_features(pipeline: Pipeline, samples: list[Sample], blocks: list[int], file: Path) -> dict[int, np.ndarray]:
    """Routing features, float32 [N, R], after each of these blocks; kept in a file."""
    if not file.exists():
        backbone = pipeline.backbone
        assert isinstance(backbone, VitBackbone)
        routed = [VitBackbone(backbone.vit, backbone.image_px, block) for block in blocks]

        def run(images_B3PP: np.ndarray) -> tuple[np.ndarray, ...]:
            pixels_B3PP = backbone.normalise(torch.from_numpy(images_B3PP))
            return tuple(each.routing(pixels_B3PP).numpy() for each in routed)

        parts = []
        with deterministic(), torch.inference_mode():
            for chunk in chunks(samples, _CHUNK):
                images_N3PP = pipeline.decode(sample.image for sample in chunk)
                parts.append(in_fixed_batches(run, images_N3PP, pipeline.feature_batch))
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        file.parent.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {str(block): column for block, column in zip(blocks, columns, strict=True)}
        np.savez(file, **arrays)
    with np.load(file) as kept:
        return {block: kept[str(block)] for block in blocks}


def routed_by(pipeline: Pipeline, public_NR: np.ndarray, block: int) -> Pipeline:
    """The pipeline with anchors of this block."""
    config, backbone = pipeline.config, pipeline.backbone
    assert isinstance(backbone, VitBackbone)
    with deterministic():
        anchors_AR = fit_anchors(public_NR, config.partition.anchors, config.seed)
        dendrogram = Dendrogram.fit(anchors_AR)
    backbone = VitBackbone(backbone.vit, backbone.image_px, block, cells=config.heads.cells)
    partition = replace(config.partition, routing_block=block)
    return replace(
        pipeline,
        config=replace(config, partition=partition),
        backbone=backbone,
        prompt_kind=prompt_kind(config.prompt, backbone),
        anchor_index=AnchorIndex(anchors_AR),
        dendrogram=dendrogram,
    )


def anchors_of(table: RowTable, rows: list[Sample], anchors_N: np.ndarray) -> np.ndarray:
    """The rows' anchors in the order of the table."""
    by_id = {sample.sample_id: anchor for sample, anchor in zip(rows, anchors_N.tolist(), strict=True)}
    return np.array([by_id[name] for name in table.sample_ids], np.int32)


def balance(routed: Pipeline, rows: list[Sample], anchors_N: np.ndarray) -> dict[str, Any]:
    """How the rows are divided."""
    seed = routed.config.seed
    bits_N = np.array([row_bits(seed, sample.sample_id, sample.subject_id) for sample in rows], np.uint64)
    counts = sorted((cluster.rows for cluster in routed.partition(anchors_N, bits_N).clusters), reverse=True)
    return {
        "rows": len(rows),
        "bound": routed.config.partition.max_cluster_rows,
        "clusters": len(counts),
        "largest_share": round(counts[0] / len(rows), 3),
        "cluster_rows": counts,
    }


def accuracy(routed: Pipeline, table: RowTable, test: list[Sample]) -> dict[str, Any]:
    """Share of right answers of both heads."""
    fitted = ClusterPrompts.fit(routed, table)
    labels_N = np.array([sample.label for sample in test])
    answers = fitted.answers(routed.decode(sample.image for sample in test))
    pooled_NC = blend(answers.shared_NC, answers.pooled_NC, answers.specialist_N, 1.0, 1.0)
    shares = {"pooled": pooled_NC, "shared": answers.shared_NC}
    return {
        "test_rows": len(test),
        "specialists": len(fitted.specialists),
        **{name: round(float((scores_NC.argmax(axis=1) == labels_N).mean()), 4) for name, scores_NC in shares.items()},
        "unexplained": {
            "pooled": round(fitted.heads.solved.pooled.unexplained, 4),
            "shared": round(fitted.heads.solved.shared.unexplained, 4),
        },
    }


def collected(out: Path) -> dict[str, Any]:
    """All results there are, by data set and block."""
    figures: dict[str, Any] = {"seed": SEED, "coreset_rows": CORESET_ROWS}
    for name in ROWS:
        for file in sorted((out / "results").glob(f"{name}-*.json")):
            _, block, what = file.stem.rsplit("-", 2)
            figures.setdefault(name, {}).setdefault(block, {})[what] = json.loads(file.read_text())
    return figures


if __name__ == "__main__":
    main()
