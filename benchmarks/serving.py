"""How fast is a batch in which every image carries the prompt of its own cluster?

``Predictor.score`` against a plain timm forward of the same batch, against the published way (prompts and heads in a
loop over images) and against one pass for each cluster. Everything runs in this process, interleaved: each round
times every case once, ratios are taken within a round, and the median over rounds is given. All cases run on one
thread, so seconds are the processor's, which other work on the machine disturbs less; those by the clock stand under
"by_clock". DeiT-Tiny at 96 px, 64 images, 16 tokens or a frame of 8 px, 1024 head features, 1024 anchors, 43 classes.
Weights, prompts, heads and images are drawn at random: seconds do not hang on them.

    python benchmarks/serving.py           prints one JSON object; ``--json`` puts it on one line
    python benchmarks/serving.py --quick   fewer rounds; under 5 minutes on two cores
    python benchmarks/serving.py --owners  instead: each image goes to an actor of its cluster; by the clock

Legend: N images, K clusters, P pixels a side, A anchors, H head features, C classes, M images of one cluster.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import ray
import torch
from threadpoolctl import threadpool_limits
from torch import nn

# As a script this file would hide the package of the same name.
sys.path.remove(str(Path(__file__).parent))

from lmeraser.config import BackboneConfig, PromptConfig, ServingConfig, StateConfig
from lmeraser.learning.backbone import VitBackbone, create_model
from lmeraser.learning.feature_map import FeatureMap
from lmeraser.learning.heads import Head, probabilities
from lmeraser.learning.partition import AnchorIndex, Dendrogram
from lmeraser.learning.prompts import TokenPrompt, prompt_kind
from lmeraser.state.commit import ClusterEntry, Commit
from lmeraser.state.pipeline import Pipeline, extract
from lmeraser.state.pipeline_loading import open_routed
from serving.predictor import Predictor, ScoreRequest
from serving.routing_table import RoutingTable
from serving.snapshot import Snapshot

IMAGES, IMAGE_PX, CLASSES, ANCHORS, WIDTH = 64, 96, 43, 1024, 192
THREADS = 1
CLUSTERS = (1, 8, 64, 256)
# The count at which the batch is spread widest is where other ways are measured.
COMPARED = 64
# An actor each, so no more than a small machine holds.
OWNERS = 8
SKIPPED_SHARE = 0.5
VARIANTS = {
    "pad": PromptConfig(kind="pad"),
    "token at 0": PromptConfig(depth=0),
    "token at L/2": PromptConfig(depth=6),
    "token at 3L/4": PromptConfig(depth=9),
}
PLAIN = "plain forward"
Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Setting:
    """One prompt kind with what is needed to pass a batch through it."""

    pipeline: Pipeline
    images_N3PP: np.ndarray

    @property
    def asked(self) -> list[ScoreRequest]:
        """One request, for the specialists too: heads that were drawn are not better one than the other."""
        return [ScoreRequest(self.images_N3PP, with_specialists=True)]

    def snapshot(self, clusters: int) -> Snapshot:
        """A snapshot of K random prompts; the batch falls evenly on the clusters, or each image on one of its own."""
        generator = np.random.default_rng(clusters)
        # Image i lies at anchor i; the anchors that no image meets go round.
        step = max(1, clusters // IMAGES)
        places_A = [n * step if clusters >= IMAGES else n * clusters // IMAGES for n in range(IMAGES)]
        places_A += [anchor % clusters for anchor in range(IMAGES, ANCHORS)]
        keys = [f"{place:064x}" for place in range(clusters)]
        entries = tuple(
            ClusterEntry(key, tuple(np.flatnonzero(np.array(places_A) == place).tolist()), "", 200, "rows", "leaf")
            for place, key in enumerate(keys)
        )
        shape = (clusters, *self.pipeline.prompt_kind.shape)
        return Snapshot(
            commit=Commit(entries, "heads", "leaf", {}, "leaf"),
            prompts_K=torch.from_numpy(generator.normal(0, 0.02, shape).astype(np.float32)).to(
                self.pipeline.backbone.device
            ),
            specialists=tuple(keys),
            routes=RoutingTable.of_clusters(entries, keys, ANCHORS),
            shared_head=random_head(generator),
            pooled_head=random_head(generator),
        )


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
    found = {
        **figures,
        "threads": THREADS,
        "gpu": torch.cuda.get_device_name() if arguments.device == "cuda" else "",
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "date": datetime.now().date().isoformat(),
    }
    print(json.dumps(found, indent=None if arguments.json else 2))


def measured(rounds: int, device: Device) -> dict[str, Any]:
    """Every case once a round."""
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
    """One batch in this process against the same batch whose images go to their clusters' actors, once a round each."""
    # All on one core, which Ray's processes inherit: else the actors would use more cores than the one batch does.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    found: dict[str, Any] = {}
    for variant in ("pad", "token at 0"):
        setting = opened(VARIANTS[variant])
        snapshot = setting.snapshot(OWNERS)
        owners = [OwnerOfCluster.remote(variant, cluster) for cluster in range(OWNERS)]
        together = partial(Predictor(setting.pipeline, ServingConfig()).score, snapshot, setting.asked)
        apart = partial(ask_owners, setting, snapshot, owners)
        difference = np.abs(together().pooled_NC - apart()).max()
        assert difference < 1e-3, f"the actors' scores differ by {difference}"
        pairs = []
        for _ in range(rounds):
            begun = time.perf_counter()
            together()
            between = time.perf_counter()
            apart()
            pairs.append((between - begun, time.perf_counter() - between))
        found[variant] = round(statistics.median(one / other for one, other in pairs), 3)
        for owner in owners:
            ray.kill(owner)
    ray.shutdown()
    return {"images": IMAGES, "rounds": rounds, "clusters": OWNERS, "routed_to_owners_over_one_batch": found}


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
        setting = opened(prompt, device)
        predictor = Predictor(setting.pipeline, ServingConfig())
        if PLAIN not in cases:
            cases[PLAIN] = partial(plain_forward, setting)
        for clusters in CLUSTERS:
            name, snapshot = case_name(variant, clusters), setting.snapshot(clusters)
            met = len(np.unique(predictor.score(snapshot, setting.asked).cluster_N))
            assert met == min(clusters, IMAGES), f"the batch meets {met} clusters of {clusters}"
            cases[name] = partial(predictor.score, snapshot, setting.asked)
            if clusters == COMPARED:
                cases[f"{variant}, passes alone"] = partial(passes_alone, setting, snapshot)
                skipping = Predictor(
                    setting.pipeline, ServingConfig(skip_above=threshold(predictor, snapshot, setting))
                )
                cases[f"{name}, half skipped"] = partial(skipping.score, snapshot, setting.asked)
            if prompt.depth == 0 and clusters == COMPARED:
                cases[f"{name}, one pass a cluster"] = partial(pass_by_cluster, setting, predictor, snapshot)
            if prompt.kind == "pad" and clusters == COMPARED:
                heads_K = [nn.Linear(WIDTH, CLASSES, device=device) for _ in range(clusters)]
                cases[f"{name}, as published"] = partial(loop_over_images, setting, snapshot, heads_K)
    return cases


def case_name(variant: str, clusters: int) -> str:
    """How a batch over so many clusters is named."""
    return f"{variant}, {clusters} clusters"


def opened(prompt: PromptConfig, device: Device = "cpu") -> Setting:
    """A method with random weights, of which the first anchors are the images' own routing features."""
    generator = np.random.default_rng(0)
    torch.manual_seed(0)
    config = StateConfig(
        labels=tuple(f"class {number}" for number in range(CLASSES)),
        backbone=BackboneConfig(image_px=IMAGE_PX, device=device),
        prompt=prompt,
    )
    backbone = open_routed(config, config.backbone, create_model(config.backbone).state_dict())
    images_N3PP = generator.integers(0, 256, (IMAGES, 3, IMAGE_PX, IMAGE_PX), np.uint8)
    routing_NR, head_NF = extract(backbone, images_N3PP, IMAGES)
    elsewhere_AR = 100 + generator.normal(0, 1, (ANCHORS - IMAGES, routing_NR.shape[1])).astype(np.float32)
    anchors_AR = np.concatenate([routing_NR, elsewhere_AR])
    pipeline = Pipeline(
        config=config,
        backbone=backbone,
        prompt_kind=prompt_kind(config.prompt, backbone),
        anchor_index=AnchorIndex(anchors_AR),
        dendrogram=Dendrogram(np.zeros((ANCHORS - 1, 2), np.int32)),
        feature_map=FeatureMap(
            head_NF.mean(axis=0, dtype=np.float64), generator.normal(0, 1, (head_NF.shape[1], config.heads.head_dim))
        ),
        feature_batch=IMAGES,
    )
    return Setting(pipeline, images_N3PP)


def random_head(generator: np.random.Generator) -> Head:
    """A head of the size of a solved one."""
    head_dim = StateConfig(labels=("a", "b")).heads.head_dim
    return Head(generator.normal(0, 0.01, (head_dim, CLASSES)), generator.normal(0, 0.01, CLASSES), 1.0, 1.0)


def threshold(predictor: Predictor, snapshot: Snapshot, setting: Setting) -> float:
    """The ``skip_above`` that leaves half of the batch to the shared head."""
    scored = predictor.score(snapshot, setting.asked)
    surest_N = probabilities(scored.shared_NC, ServingConfig().temperature).max(axis=1)
    return float(np.quantile(surest_N, 1 - SKIPPED_SHARE))


def plain_forward(setting: Setting) -> torch.Tensor:
    """What the model alone costs: timm's own forward of the batch, without any head."""
    backbone = setting.pipeline.backbone
    with torch.inference_mode():
        answer: torch.Tensor = backbone.model(backbone.normalise(torch.from_numpy(setting.images_N3PP)))
        # Where there is a GPU, this waits for it.
        return answer.cpu()


def passes_alone(setting: Setting, snapshot: Snapshot) -> torch.Tensor:
    """What the blocks alone cost, prompts included: no search, no projection, no head."""
    kind, backbone = setting.pipeline.prompt_kind, setting.pipeline.backbone
    prompts_N = snapshot.prompts_K[:IMAGES]
    with torch.inference_mode():
        pixels_N3PP = backbone.normalise(torch.from_numpy(setting.images_N3PP))
        if not isinstance(kind, TokenPrompt):
            backbone.features_of_pixels(pixels_N3PP)
            return kind.features(pixels_N3PP, prompts_N).head_NF.cpu()
        assert isinstance(backbone, VitBackbone)
        lower = kind.lower(pixels_N3PP)
        backbone.finish(lower)
        return kind.features_from(lower, prompts_N).head_NF.cpu()


def routed(setting: Setting, snapshot: Snapshot) -> tuple[torch.Tensor, np.ndarray]:
    """Pixels of the batch, and by an un-prompted pass the cluster of each image."""
    pipeline = setting.pipeline
    pixels_N3PP = pipeline.backbone.normalise(torch.from_numpy(setting.images_N3PP))
    routing_NR = pipeline.backbone.features_of_pixels(pixels_N3PP).routing_NR.cpu().numpy()
    return pixels_N3PP, snapshot.routes.specialist_A[pipeline.anchor_index.nearest(routing_NR)]


def pass_by_cluster(setting: Setting, predictor: Predictor, snapshot: Snapshot) -> np.ndarray:
    """The un-prompted pass, then one prompted pass for each cluster that the batch meets."""
    pipeline = setting.pipeline
    scores_NC = np.zeros((IMAGES, CLASSES))
    with torch.inference_mode():
        pixels_N3PP, cluster_N = routed(setting, snapshot)
        for cluster in np.unique(cluster_N):
            rows_M = np.flatnonzero(cluster_N == cluster)
            prompts_M = snapshot.prompts_K[cluster].expand(len(rows_M), *pipeline.prompt_kind.shape)
            features = pipeline.prompt_kind.features(pixels_N3PP[rows_M], prompts_M)
            scores_NC[rows_M] = snapshot.pooled_head.scores(predictor.projected(features))
    return scores_NC


@ray.remote(num_cpus=0)
class OwnerOfCluster:
    """An actor that answers for one cluster."""

    def __init__(self, variant: str, cluster: int) -> None:
        torch.set_num_threads(THREADS)
        self._setting = opened(VARIANTS[variant])
        self._predictor = Predictor(self._setting.pipeline, ServingConfig())
        self._snapshot = self._setting.snapshot(OWNERS)
        self._cluster = cluster

    def scores(self, pixels_M3PP: np.ndarray) -> np.ndarray:
        """Of the pooled head, (M, C)."""
        pipeline = self._setting.pipeline
        with torch.inference_mode():
            prompts_M = self._snapshot.prompts_K[self._cluster].expand(len(pixels_M3PP), *pipeline.prompt_kind.shape)
            features = pipeline.prompt_kind.features(torch.from_numpy(pixels_M3PP.copy()), prompts_M)
            return self._snapshot.pooled_head.scores(self._predictor.projected(features))


def ask_owners(setting: Setting, snapshot: Snapshot, owners: Sequence[Any]) -> np.ndarray:
    """The un-prompted pass here, then each cluster's images to its actor, all at once."""
    scores_NC = np.zeros((IMAGES, CLASSES))
    with torch.inference_mode():
        pixels_N3PP, cluster_N = routed(setting, snapshot)
    asked = {
        cluster: owners[cluster].scores.remote(pixels_N3PP.numpy()[cluster_N == cluster])
        for cluster in np.unique(cluster_N)
    }
    for cluster, answer in asked.items():
        scores_NC[cluster_N == cluster] = ray.get(answer)
    return scores_NC


def loop_over_images(setting: Setting, snapshot: Snapshot, heads_K: Sequence[nn.Linear]) -> torch.Tensor:
    """As published: the prompt is put on image by image, one pass takes all, and each goes through its cluster's head.

    The published head sees the final class token only, and there is no shared head.
    """
    with torch.inference_mode():
        pixels_N3PP, cluster_N = routed(setting, snapshot)
        prompted = [pixels_N3PP[n : n + 1] + snapshot.prompts_K[cluster] for n, cluster in enumerate(cluster_N)]
        model: Any = setting.pipeline.backbone.model
        tokens_NSD = model.forward_features(torch.cat(prompted))
        return torch.stack([heads_K[cluster](tokens_NSD[n, 0]) for n, cluster in enumerate(cluster_N)]).cpu()


if __name__ == "__main__":
    main()
