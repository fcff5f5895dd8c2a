"""How fast is a batch in which every image carries the prompt of its own cluster?

``Predictor.score`` against timm's plain forward of the same batch. DeiT-Tiny at 224 px, 16 images, 16 tokens or a frame
of 8 px, 1024 head features, 1024 anchors, 43 classes. Prompts, heads and images are drawn at random: seconds do not
depend on them. Everything runs in this process on one thread. A round times every case once, each between two plain
forwards; a case is compared with the mean of its two, and the median over the rounds is given. Seconds are the
processor's, which other work on the machine disturbs less; ratios by the clock are under "by_clock".

    python -m benchmarks.bench_serving --data ../shared/data    weights from there; without it, random ones
    python -m benchmarks.bench_serving --docs                   writes docs/benchmarks/throughput.json and .svg as well
    python -m benchmarks.bench_serving --owners                 instead: each image goes to an actor of its cluster

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
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from threadpoolctl import threadpool_limits
from torch import nn

from benchmarks.lib.cluster_batch import CLASSES, IMAGE_PX, IMAGES, random_batch
from benchmarks.lib.harness import machine
from benchmarks.lib.plotting import one_legend, plots_in_a_row, save
from benchmarks.lib.settings import Device
from benchmarks.lib.ways_to_answer import ask_owners, loop_over_images, pass_by_cluster, plain_forward, start_owners
from lmeraser.config import PromptConfig, ServingConfig
from serving.predictor import Predictor

# Of DeiT-Tiny.
WIDTH = 192
THREADS = 1
CLUSTERS = (1, 8, 64)
# Other ways are measured at the count at which the batch is spread most widely.
WIDEST = 64
# One actor each, so no more than a small machine holds.
OWNERS = 8
BLENDED = ServingConfig(specialist_weight=0.75)
VARIANTS = {
    "pad": PromptConfig(kind="pad"),
    "token at 0": PromptConfig(depth=0),
    "token at 1": PromptConfig(depth=1),
    "token at 6": PromptConfig(depth=6),
}
# Least share of the plain forward's answers per second that is aimed for.
TARGETS = {"pad": 0.90, "token at 0": 0.85, "token at 1": 0.85, "token at 6": 0.85}
TARGET_ONE_CLUSTER = 0.90
# As in benchmarks.lib.plotting: told apart by everybody.
_COLOURS = ("#0072B2", "#56B4E9", "#009E73", "#E69F00")
WEIGHTS = Path("weights/deit_tiny_patch16_224.safetensors")


def main() -> None:
    """Measure, and print one object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", type=Path, help="folder with weights/, as the configurations in examples/ expect it")
    parser.add_argument("--docs", action="store_true", help="write docs/benchmarks/throughput.json and .svg as well")
    parser.add_argument("--owners", action="store_true", help="measure routing to actors instead")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="where the backbone is")
    parser.add_argument("--json", action="store_true", help="the object on one line")
    arguments = parser.parse_args()
    weights = None if arguments.data is None else arguments.data / WEIGHTS
    torch.set_num_threads(THREADS)
    # Ray limits BLAS and FAISS in a replica by OMP_NUM_THREADS.
    with threadpool_limits(THREADS):
        if arguments.owners:
            figures = routed_to_owners(arguments.rounds)
        else:
            figures = measured(arguments.rounds, arguments.device, weights)
    gpu = torch.cuda.get_device_name() if arguments.device == "cuda" else ""
    figures |= {"weights": str(WEIGHTS) if weights else "random", "threads": THREADS, "gpu": gpu, **machine()}
    if arguments.docs:
        draw(figures)
    print(json.dumps(figures, indent=None if arguments.json else 2))


def measured(rounds: int, device: Device, weights: Path | None) -> dict[str, Any]:
    """Every case once per round, each between two plain forwards."""
    plain, cases = all_cases(device, weights)
    for case in (plain, *cases.values()):
        case()
    ratios: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    plain_s: list[float] = []
    load = [os.getloadavg()[0]]
    for number in range(rounds):
        before = seconds_of(plain)
        # Every second round goes backwards, so that no case always follows the same one.
        for name, case in list(cases.items())[:: 1 if number % 2 == 0 else -1]:
            own = seconds_of(case)
            after = seconds_of(plain)
            processor, clock = ((one + other) / 2 / each for one, other, each in zip(before, after, own, strict=True))
            ratios[name].append((processor, clock))
            plain_s.append(after[0])
            before = after
        load.append(os.getloadavg()[0])
    medians = {
        name: [round(statistics.median(each), 3) for each in zip(*pairs, strict=True)] for name, pairs in ratios.items()
    }
    return {
        "images": IMAGES,
        "image_px": IMAGE_PX,
        "rounds": rounds,
        "plain_forward_s": round(statistics.median(plain_s), 3),
        "over_plain_forward": {name: processor for name, (processor, _) in medians.items()},
        "range": {
            name: [round(pick(pair[0] for pair in pairs), 3) for pick in (min, max)] for name, pairs in ratios.items()
        },
        "by_clock": {name: clock for name, (_, clock) in medians.items()},
        "loads": [round(each, 1) for each in load],
    }


def seconds_of(case: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the processor and of the clock that one call takes."""
    begun, begun_processor = time.perf_counter(), time.process_time()
    case()
    return time.process_time() - begun_processor, time.perf_counter() - begun


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


def all_cases(device: Device, weights: Path | None) -> tuple[Callable[[], object], dict[str, Callable[[], object]]]:
    """The plain forward, and everything that is compared with it, by name."""
    cases: dict[str, Callable[[], object]] = {}
    for variant, prompt in VARIANTS.items():
        batch = random_batch(prompt, device, weights)
        predictor, blending = Predictor(batch.pipeline, ServingConfig()), Predictor(batch.pipeline, BLENDED)
        for clusters in CLUSTERS:
            name, snapshot = case_name(variant, clusters), batch.snapshot(clusters)
            scores = predictor.score(snapshot, batch.requests)
            reached = len(np.unique(scores.cluster_N))
            assert reached == min(clusters, IMAGES), f"the batch reaches {reached} clusters of {clusters}"
            assert scores.specialist_N.all(), "an image has no prompt of its own"
            cases[name] = partial(predictor.score, snapshot, batch.requests)
            if clusters == WIDEST:
                cases[f"{name}, blended"] = partial(blending.score, snapshot, batch.requests)
            if prompt.depth == 0 and clusters == WIDEST:
                cases[f"{name}, one pass a cluster"] = partial(pass_by_cluster, batch, predictor, snapshot)
            if prompt.kind == "pad" and clusters == WIDEST:
                heads_K = [nn.Linear(WIDTH, CLASSES, device=device) for _ in range(clusters)]
                cases[f"{name}, as published"] = partial(loop_over_images, batch, snapshot, heads_K)
    return partial(plain_forward, batch), cases


def case_name(variant: str, clusters: int) -> str:
    """Name of the case with this number of clusters."""
    return f"{variant}, {clusters} clusters"


def draw(figures: dict[str, Any]) -> None:
    """Bars of each variant's answers per second by number of clusters, and blended, with the targets as lines."""
    figure, (plot,) = plots_in_a_row(1, width=9.0, height=4.2)
    shares = figures["over_plain_forward"]
    series = {f"{clusters} cluster{'s' if clusters > 1 else ''}": f", {clusters} clusters" for clusters in CLUSTERS}
    series[f"{WIDEST} clusters, blended"] = f", {WIDEST} clusters, blended"
    width = 0.8 / len(series)
    for position, (label, suffix) in enumerate(series.items()):
        places = [number + (position - (len(series) - 1) / 2) * width for number in range(len(VARIANTS))]
        colour = _COLOURS[position]
        plot.bar(places, [shares[variant + suffix] for variant in VARIANTS], width, color=colour, label=label)
    for number, variant in enumerate(VARIANTS):
        plot.hlines(TARGETS[variant], number - 0.4, number + 0.4, colors="black", linestyles=":")
    plot.set_xticks(range(len(VARIANTS)), list(VARIANTS))
    plot.set_ylabel("answers per second,\nof timm's plain forward")
    plot.set_ylim(0, 1)
    one_legend(figure, [plot])
    save(figure, {**figures, "targets": {**TARGETS, "one cluster": TARGET_ONE_CLUSTER}}, "throughput")


if __name__ == "__main__":
    main()
