"""What do projection, rounding and clipping cost the shared head in accuracy on real images?

The same shared head on the same DeiT-Tiny features: all of them (standardised by public figures), after the public
projection to ``head_dim``, and after rounding to 1/256 and clipping to ±8, which the exact sums need.

    python -m benchmarks.bench_head_numerics --data ../shared/data

Legend: N rows, F raw head features, H head features.
"""

from __future__ import annotations

import argparse
import json

import numpy as np

from benchmarks.lib.settings import ROOT
from lmeraser.config import SourceConfig, load_config
from lmeraser.data import decode_image, open_source
from lmeraser.learning.backbone import Backbone
from lmeraser.learning.feature_map import FeatureMap
from lmeraser.learning.heads import Statistics, solve
from lmeraser.learning.numerics import GRID, LIMIT, deterministic
from lmeraser.state.pipeline import extract_head
from lmeraser.state.pipeline_loading import open_routed

PUBLIC_ROWS, TEST_ROWS, HEAD_DIM, BATCH = 4000, 1000, 1024, 32


def main() -> None:
    """Print one JSON object for each example."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    arguments = parser.parse_args()
    for example in ("gtsrb", "cifar10"):
        config = load_config(ROOT / "examples" / f"{example}.yaml", {"data": arguments.data})
        assert config.test is not None
        labels = open_source(config.private).labels
        backbone = open_routed(config.state(labels), config.backbone, None)
        public_NF, _ = features(backbone, config.public, PUBLIC_ROWS)
        train_NF, train_N = features(backbone, config.private, config.private.max_rows or 0)
        test_NF, test_N = features(backbone, config.test, TEST_ROWS)
        whole = FeatureMap.fit(public_NF, public_NF.shape[1])
        projected = FeatureMap.fit(public_NF, HEAD_DIM)
        values_NH = unrounded(projected, train_NF)
        figure = {
            "example": example,
            "rows": len(train_N),
            "test_rows": len(test_N),
            "features": int(public_NF.shape[1]),
            "all features": accuracy(unrounded(whole, train_NF), train_N, unrounded(whole, test_NF), test_N),
            "projected": accuracy(values_NH, train_N, unrounded(projected, test_NF), test_N),
            "projected, rounded, clipped": accuracy(
                projected.project(train_NF), train_N, projected.project(test_NF), test_N
            ),
            "clipped share": float((np.abs(values_NH) > LIMIT * GRID).mean()),
        }
        print(json.dumps(figure), flush=True)


def features(backbone: Backbone, source: SourceConfig, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Raw head features and labels of some rows."""
    opened = open_source(SourceConfig(source.kind, source.path, source.dataset, source.split, rows))
    samples = list(opened.samples(opened.labels))
    images_N3PP = np.stack([decode_image(sample.image, backbone.image_px) for sample in samples])
    return extract_head(backbone, images_N3PP, BATCH), np.array([sample.label for sample in samples])


def unrounded(feature_map: FeatureMap, head_NF: np.ndarray) -> np.ndarray:
    """The map without rounding and clipping, in units of the grid."""
    values_NH: np.ndarray = (head_NF.astype(np.float64) - feature_map.mean_F) @ feature_map.projection_FH * GRID
    return values_NH


def accuracy(train_NH: np.ndarray, train_N: np.ndarray, test_NH: np.ndarray, test_N: np.ndarray) -> float:
    """Share of right answers of the head."""
    with deterministic():
        head = solve(Statistics.of(train_NH, train_N, int(max(train_N.max(), test_N.max())) + 1))
        return float((head.scores(test_NH).argmax(axis=1) == test_N).mean())


if __name__ == "__main__":
    main()
