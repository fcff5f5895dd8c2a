"""How fast is a batch in which every image carries the prompt of its own cluster?

``Predictor.score`` against a plain timm forward of the same batch, against the published way (prompts and heads in a
loop over images) and against one pass for each cluster. Everything runs in this process, interleaved: each round
times every case once, ratios are taken within a round, and the median over rounds is given. All cases run on one
thread, so seconds are the processor's, which other work on the machine disturbs less; those by the clock are under
"by_clock". DeiT-Tiny at 96 px, 64 images, 16 tokens or a frame of 8 px, 1024 head features, 1024 anchors, 43 classes.
Weights, prompts, heads and images are drawn at random: seconds do not depend on them.

    python -m benchmarks.bench_serving           prints one JSON object; ``--json`` puts it on one line
    python -m benchmarks.bench_serving --quick   fewer rounds; under 5 minutes on two cores
    python -m benchmarks.bench_serving --owners  instead: each image goes to an actor of its cluster; by the clock

Legend: K clusters.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import ray
import torch
from threadpoolctl import threadpool_limits
from torch import nn

from benchmarks.lib.cluster_batch import CLASSES, IMAGES, ClusterBatch, random_batch
from benchmarks.lib.harness import machine
from benchmarks.lib.settings import Device
from benchmarks.lib.ways_to_answer import (
    ask_owners,
    loop_over_images,
    pass_by_cluster,
    passes_alone,
    plain_forward,
    start_owners,
)
from lmeraser.config import PromptConfig, ServingConfig
from lmeraser.learning.heads import probabilities
from serving.predictor import Predictor
from serving.snapshot import Snapshot

# Of DeiT-Tiny.
WIDTH = 192
THREADS = 1
CLUSTERS = (1, 8, 64, 256)
# Other ways are measured at the count at which the batch is spread most widely.
COMPARED = 64
# One actor each, so no more than a small machine holds.
OWNERS = 8
SKIPPED_SHARE = 0.5
VARIANTS = {
    "pad": PromptConfig(kind="pad"),
    "token at 0": PromptConfig(depth=0),
    "token at L/2": PromptConfig(depth=6),
    "token at 3L/4": PromptConfig(depth=9),
}
PLAIN = "plain forward"


def main() -> None:
    """Measure, and print one object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 rounds instead of 7")
    parser.add_argument("--owners", action="store_true", help="measure routing to actors instead")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="where the backbone is")
    parser.add_argument("--json", action="store_true", help="the object on one line")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    # Ray limits BLAS and FAISS in a replica by OMP_NUM_THREADS.
    with threadpool_limits(THREADS):
        rounds = 3 if arguments.quick else 7
        figures = routed_to_owners(rounds) if arguments.owners else measured(rounds, arguments.device)
    gpu = torch.cuda.get_device_name() if arguments.device == "cuda" else ""
    figure = {**figures, "threads": THREADS, "gpu": gpu, **machine()}
    print(json.dumps(figure, indent=None if arguments.json else 2))


def measured(rounds: int, device: Device) -> dict[str, Any]:
    """Every case once per round."""
    cases = all_cases(device)
    for case in cases.values():
        case()
    processor_s: dict[str, list[float]] = {name: [] for name in cases}
    clock_s: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(rounds):
        # Every second round goes backwards, so that no case always follows the same one.
        for name, case in list(cases.items())[:: 1 if number % 2 == 0 else -1]:
            begun, begun_processor = time.perf_counter(), time.process_time()
            case()
            processor_s[name].append(time.process_time() - begun_processor)
            clock_s[name].append(time.perf_counter() - begun)
    return {"images": IMAGES, "rounds": rounds, **ratios(processor_s), "by_clock": ratios(clock_s)}


def routed_to_owners(rounds: int) -> dict[str, Any]:
    """One batch in this process against the same batch sent to the actors of its clusters, once per round each."""
    # All on one core, which Ray's processes inherit: otherwise the actors would use more cores than the one batch.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    by_variant: dict[str, Any] = {}
    for variant in ("pad", "token at 0"):
        batch = random_batch(VARIANTS[variant])
        snapshot = batch.snapshot(OWNERS)
        owners = start_owners(VARIANTS[variant], OWNERS, THREADS)
        together = partial(Predictor(batch.pipeline, ServingConfig()).score, snapshot, batch.requests)
        apart = partial(ask_owners, batch, snapshot, owners)
        difference = np.abs(together().pooled_NC - apart()).max()
        assert difference < 1e-3, f"the actors' scores differ by {difference}"
        pairs = []
        for _ in range(rounds):
            begun = time.perf_counter()
            together()
            between = time.perf_counter()
            apart()
            pairs.append((between - begun, time.perf_counter() - between))
        by_variant[variant] = round(statistics.median(together_s / apart_s for together_s, apart_s in pairs), 3)
        for owner in owners:
            ray.kill(owner)
    ray.shutdown()
    return {"images": IMAGES, "rounds": rounds, "clusters": OWNERS, "routed_to_owners_over_one_batch": by_variant}


def ratios(seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Medians over the rounds, and medians of the ratios within them."""

    def throughput(of: str, relative_to: str) -> float:
        pairs = zip(seconds[relative_to], seconds[of], strict=True)
        return round(statistics.median(base_s / own_s for base_s, own_s in pairs), 3)

    by_variant = {
        variant: {
            str(clusters): throughput(case_name(variant, clusters), case_name(variant, CLUSTERS[0]))
            for clusters in CLUSTERS[1:]
        }
        for variant in VARIANTS
    }
    return {
        # The lowest of the variants.
        "heterogeneous_over_homogeneous": {
            str(clusters): min(of_variant[str(clusters)] for of_variant in by_variant.values())
            for clusters in CLUSTERS[1:]
        },
        "heterogeneous_over_homogeneous_by_variant": by_variant,
        "over_plain_forward": {name: throughput(name, PLAIN) for name in seconds if name != PLAIN},
        "over_its_own_passes": {
            variant: throughput(case_name(variant, COMPARED), f"{variant}, passes alone") for variant in VARIANTS
        },
        "median_s": {name: round(statistics.median(values), 4) for name, values in seconds.items()},
    }


def all_cases(device: Device) -> dict[str, Callable[[], object]]:
    """Everything that is timed, by name."""
    cases: dict[str, Callable[[], object]] = {}
    for variant, prompt in VARIANTS.items():
        batch = random_batch(prompt, device)
        predictor = Predictor(batch.pipeline, ServingConfig())
        if PLAIN not in cases:
            cases[PLAIN] = partial(plain_forward, batch)
        for clusters in CLUSTERS:
            name, snapshot = case_name(variant, clusters), batch.snapshot(clusters)
            reached = len(np.unique(predictor.score(snapshot, batch.requests).cluster_N))
            assert reached == min(clusters, IMAGES), f"the batch reaches {reached} clusters of {clusters}"
            cases[name] = partial(predictor.score, snapshot, batch.requests)
            if clusters == COMPARED:
                cases[f"{variant}, passes alone"] = partial(passes_alone, batch, snapshot)
                skipping = Predictor(batch.pipeline, ServingConfig(skip_above=threshold(predictor, snapshot, batch)))
                cases[f"{name}, half skipped"] = partial(skipping.score, snapshot, batch.requests)
            if prompt.depth == 0 and clusters == COMPARED:
                cases[f"{name}, one pass a cluster"] = partial(pass_by_cluster, batch, predictor, snapshot)
            if prompt.kind == "pad" and clusters == COMPARED:
                heads_K = [nn.Linear(WIDTH, CLASSES, device=device) for _ in range(clusters)]
                cases[f"{name}, as published"] = partial(loop_over_images, batch, snapshot, heads_K)
    return cases


def case_name(variant: str, clusters: int) -> str:
    """Name of the case with this number of clusters."""
    return f"{variant}, {clusters} clusters"


def threshold(predictor: Predictor, snapshot: Snapshot, batch: ClusterBatch) -> float:
    """The ``skip_above`` that leaves half of the batch to the shared head."""
    scored = predictor.score(snapshot, batch.requests)
    surest_N = probabilities(scored.shared_NC, ServingConfig().temperature).max(axis=1)
    return float(np.quantile(surest_N, 1 - SKIPPED_SHARE))


if __name__ == "__main__":
    main()
