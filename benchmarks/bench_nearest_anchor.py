"""How long does a replica take to find the nearest anchors of the images of one pass?

As the state finds them (FAISS on batches padded to 64 rows), as FAISS finds them without padding, and as a replica
does: by a matrix product, which leaves images that rounding might decide to the state's search. Random features of
DeiT-Tiny's width, one thread; milliseconds of the processor, medians over rounds that take the ways in turn.

With ``--data``, also the share of traffic signs that a replica leaves to the state's search: routing features after
block 1 at 96 px, anchors of public images.

    OMP_NUM_THREADS=1 python -m benchmarks.bench_nearest_anchor --data ../shared/data

Legend: N images, A anchors, R routing features, P pixels per side.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from threadpoolctl import threadpool_limits

from benchmarks.lib.harness import machine
from benchmarks.lib.settings import ROOT
from lmeraser.config import BackboneConfig, SourceConfig, StateConfig, load_config
from lmeraser.data import decode_image, open_source
from lmeraser.learning.anchors import AnchorIndex, fit_anchors
from lmeraser.learning.prompts import prompt_kind
from lmeraser.learning.weights import read_weights
from lmeraser.state.pipeline_loading import open_routed
from serving.nearest_anchor import NearestAnchor

WIDTH = 192
ANCHORS = (1024, 16_384, 65_536)
# One image, those of a pass on a CPU, and those of a batch on a GPU.
IMAGES = (1, 8, 64)
SIGNS_PX, PUBLIC_ROWS, SIGNS = 96, 10_000, 2000
ANCHORS_OF_SIGNS = (256, 1024, 4096)
CPU = torch.device("cpu")


class CountingIndex(AnchorIndex):
    """Counts the rows that it is asked for."""

    rows = 0

    def nearest(self, routing_NR: np.ndarray) -> np.ndarray:
        self.rows += len(routing_NR)
        return super().nearest(routing_NR)


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--data", type=Path, help="folder with private/, public/ and weights/")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        for anchors in ANCHORS:
            for figure in seconds(anchors, arguments.rounds):
                print(json.dumps({**figure, **machine()}), flush=True)
        for figure in left_to_the_state(arguments.data) if arguments.data else ():
            print(json.dumps({**figure, **machine()}), flush=True)


def seconds(anchors: int, rounds: int) -> Iterator[dict[str, Any]]:
    """Milliseconds of the processor of each way for each number of images."""
    generator = np.random.default_rng(anchors)
    anchors_AR = generator.normal(0, 1, (anchors, WIDTH)).astype(np.float32)
    index, unpadded = AnchorIndex(anchors_AR), faiss.IndexFlatL2(WIDTH)
    unpadded.add(anchors_AR)
    replica = NearestAnchor(index, CPU)
    for images in IMAGES:
        routing_NR = generator.normal(0, 1, (images, WIDTH)).astype(np.float32)
        ways: dict[str, Callable[[], object]] = {
            "state": partial(index.nearest, routing_NR),
            "faiss_unpadded": partial(unpadded.search, routing_NR, 2),
            "replica": partial(replica, torch.from_numpy(routing_NR)),
        }
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(rounds):
            for name in list(ways)[:: 1 if number % 2 == 0 else -1]:
                begun = time.process_time()
                ways[name]()
                taken[name].append(time.process_time() - begun)
        medians = {f"{name}_ms": round(statistics.median(each) * 1000, 3) for name, each in taken.items()}
        yield {"anchors": anchors, "images": images, **medians}


def left_to_the_state(data: Path) -> Iterator[dict[str, Any]]:
    """Shares of traffic signs that rounding might decide."""
    config = load_config(ROOT / "examples" / "gtsrb.yaml", {"data": str(data)})
    backbone = BackboneConfig(image_px=SIGNS_PX)
    state = StateConfig(labels=("a", "b"), backbone=backbone)
    routed = open_routed(state, backbone, read_weights(data / "weights" / "deit_tiny_patch16_224.safetensors"))
    kind = prompt_kind(state.prompt, routed)

    def features(source: SourceConfig, rows: int) -> np.ndarray:
        opened = open_source(source)
        images = [sample.image for sample in islice(opened.samples(opened.labels), rows)]
        parts = []
        for start in range(0, len(images), 64):
            images_N3PP = np.stack([decode_image(each, SIGNS_PX, config.images) for each in images[start : start + 64]])
            with torch.inference_mode():
                parts.append(kind.lower(routed.normalise(torch.from_numpy(images_N3PP))).routing().numpy())
        return np.concatenate(parts)

    public_NR, signs_NR = features(config.public, PUBLIC_ROWS), features(config.private, SIGNS)
    for anchors in ANCHORS_OF_SIGNS:
        index = CountingIndex(fit_anchors(public_NR, anchors, seed=0))
        found_N = NearestAnchor(index, CPU)(torch.from_numpy(signs_NR))
        left = index.rows
        yield {
            "anchors": anchors,
            "signs": len(signs_NR),
            "left_to_the_state": round(left / len(signs_NR), 4),
            "differing": int((found_N != index.nearest(signs_NR)).sum()),
        }


if __name__ == "__main__":
    main()
