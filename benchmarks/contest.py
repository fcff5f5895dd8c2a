"""The contest: every method on the same backbone, rows and seed, one process for each, results kept in files.

A result is one JSON file under the output folder and is not made again, so a run that was cut off goes on. The other
scripts read these files.

Legend: N rows, P pixels a side, C classes.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

# The script serving.py beside this one would hide the package of the same name.
sys.path.insert(0, str(Path(__file__).parent.parent))

from lmeraser.baselines import (
    ClusterPrompts,
    PublishedConfig,
    PublishedLMEraser,
    Retraining,
    SamplePrompt,
    SharedHeadOnly,
    Sisa,
    measured,
)
from lmeraser.baselines.shared_head_only import raw_features
from lmeraser.config import Config, PromptConfig, ServingConfig, SourceConfig, load_config
from lmeraser.data import Sample, open_source
from lmeraser.hashing import draw, draw_uint64
from lmeraser.learning.feature_map import FeatureMap
from lmeraser.learning.heads import blend
from lmeraser.learning.numerics import deterministic
from lmeraser.learning.tuning import TuningRows
from lmeraser.learning.weights import read_weights
from lmeraser.state.commit import ClusterEntry, Commit
from lmeraser.state.fingerprint import accelerator_name
from lmeraser.state.layout import MANIFEST
from lmeraser.state.manifest import load_manifest
from lmeraser.state.pipeline import Pipeline
from lmeraser.state.pipeline_loading import load_pipeline
from lmeraser.state.public_artifacts import create_store
from lmeraser.state.public_fit import build_public
from lmeraser.store import LocalStore
from serving.predictor import Predictor, ScoreRequest
from serving.routing_table import RoutingTable
from serving.snapshot import Snapshot

ROOT = Path(__file__).parent.parent
PROMPT_SETTINGS = ("kind", "depth", "pad_px", "public_epochs")
# Rows and test rows; of GTSRB and the digits all test rows.
SIZES = {"digits": (600, 292), "mnist": (20_000, 5_000), "gtsrb": (2_000, 1_760), "cifar10": (1_000, 1_000)}
WEIGHTS = (0.25, 0.5, 0.75, 1.0)
SERVING = ServingConfig()
PUBLIC_ROWS_OF_A_MAP = 4000
# What one deletion takes is measured with one seed; what it takes in expectation is worked out with each.
TIMED_DELETIONS = 1
TIMED_SEED = 0
# A whole number of batches, so that no row only fills one.
SERVED_IMAGES = 256
BATCH_IMAGES = 64


@dataclass(frozen=True)
class Arena:
    """Rows and a backbone on which methods meet.

    Attributes:
        name: of the data.
        config: as a user would write it.
        rows, test_rows: how many are drawn, by a hash of seed and sample id.
    """

    name: str
    config: Config
    rows: int
    test_rows: int

    def drawn(self, source: SourceConfig, labels: tuple[str, ...], rows: int, seed: int) -> list[Sample]:
        """Some rows of a source, drawn by the seed, sorted by sample id."""
        samples = list(open_source(source).samples(labels))
        samples.sort(key=lambda sample: draw_uint64(seed, "contest", sample.sample_id))
        return sorted(samples[:rows], key=lambda sample: sample.sample_id)

    @property
    def kept_as(self) -> str:
        """Data and device: what results of one kind are kept under."""
        return self.name if self.config.backbone.device == "cpu" else f"{self.name}-{self.config.backbone.device}"

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names that the private rows declare."""
        return open_source(self.config.private).labels


@dataclass(frozen=True)
class Entry:
    """One method with its settings.

    Attributes:
        method: "retrain", "sisa", "sampled", "published", "ridge" or "ours".
        settings: what differs from the arena's configuration.
    """

    method: str
    settings: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """Method and settings in one word."""
        return "-".join([self.pipeline, *(f"{key}_{value}" for key, value in self.settings)])

    def __getitem__(self, key: str) -> Any:
        return dict(self.settings)[key]

    def get(self, key: str, otherwise: Any) -> Any:
        """A setting, or what holds without it."""
        return dict(self.settings).get(key, otherwise)


def arena(
    name: str, data: Path, rows: int | None, test_rows: int | None, device: Literal["cpu", "cuda"] = "cpu"
) -> Arena:
    """The arena of this name: "digits", "mnist", "gtsrb" or "cifar10"; the backbone is on this device."""
    config = _config(name, data)
    config = replace(config, backbone=replace(config.backbone, device=device))
    return Arena(name, config, rows or SIZES[name][0], test_rows or SIZES[name][1])


def _config(name: str, data: Path) -> Config:
    digits = load_config(ROOT / "cluster" / "demo.yaml")
    if name == "digits":
        return digits
    if name == "mnist":
        files = (str(data / "private" / f"mnist-{part}.parquet") for part in ("train", "test"))
        train, test = (SourceConfig("parquet", file) for file in files)
        return replace(digits, private=train, test=test)
    config = load_config(ROOT / "examples" / f"{name}.yaml", {"data": str(data)})
    assert config.test is not None
    private, test = (replace(source, max_rows=None) for source in (config.private, config.test))
    return replace(config, private=private, test=test)


def method_of(place: Arena, folder: Path, seed: int, entry: Entry) -> Pipeline:
    """The method with the entry's settings, over public artifacts that are made once for each prompt and seed."""
    config = place.config
    settled = replace(config, seed=seed, prompt=prompt_of(place, entry)).state(place.labels)
    store = LocalStore(store_of(place, folder, seed, entry))
    if not store.exists(MANIFEST):
        state = _glyph_weights(folder) if config.backbone.weights == "trained" else None
        public = open_source(config.public)
        create_store(store, settled, build_public(settled, state, public.samples(public.labels)))
    pipeline = load_pipeline(store, load_manifest(store))
    partition = replace(settled.partition, max_cluster_rows=entry.get("bound", settled.partition.max_cluster_rows))
    tuning = replace(settled.tuning, epochs=entry.get("epochs", settled.tuning.epochs))
    return replace(pipeline, config=replace(settled, partition=partition, tuning=tuning))


def store_of(place: Arena, folder: Path, seed: int, entry: Entry) -> Path:
    """Where these public artifacts lie."""
    settings = "-".join(str(value) for value in asdict(prompt_of(place, entry)).values())
    return folder / "public" / f"{place.kept_as}-{seed}-{settings}"


def prompt_of(place: Arena, entry: Entry) -> PromptConfig:
    """The arena's prompt with the entry's settings."""
    named = dict(entry.settings)
    return replace(place.config.prompt, **{key: named[key] for key in PROMPT_SETTINGS if key in named})


def _glyph_weights(folder: Path) -> Any:
    """The demo's backbone, trained once by Ray Train."""
    from cluster.pretrain import pretrain, weights_name
    from cluster.runtime import connect

    config = load_config(ROOT / "cluster" / "demo.yaml")
    store = LocalStore(folder / "glyphs")
    if not store.exists(weights_name(config)):
        os.environ.setdefault("RAY_ADDRESS", "local")
        connect()
        pretrain(config, store, lambda *_: None)
    return read_weights(folder / "glyphs" / weights_name(config))


def results(
    place: Arena, entries: Iterable[Entry], seeds: Iterable[int], folder: Path, deleted: float = 0.0
) -> list[dict[str, Any]]:
    """The result of every entry at every seed; what is not there yet is run, each in a process of its own.

    Args:
        place: where they meet.
        entries: methods with their settings.
        seeds: each draws rows and everything else.
        folder: where results are kept.
        deleted: share of the rows that went one after the other.
    """
    found = []
    context = multiprocessing.get_context("spawn")
    for seed in seeds:
        for entry in entries:
            gone = f"-without_{deleted}" if deleted else ""
            file = folder / "results" / f"{place.kept_as}-{place.rows}{gone}" / f"{entry.name}-{seed}.json"
            if not file.exists():
                with ProcessPoolExecutor(1, context) as worker:
                    result = worker.submit(run, place, entry, seed, folder, deleted).result()
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(json.dumps(result, indent=1))
                print(json.dumps(told(result)), flush=True)
            found.append(json.loads(file.read_text()))
    return found


def told(result: dict[str, Any]) -> dict[str, Any]:
    """A result in one line."""
    names = ("arena", "seed", "entry", "accuracy", "expected_row_passes")
    return {**{name: result[name] for name in names}, "fit_s": round(result["fit"]["wall_s"], 1)}


def run(place: Arena, entry: Entry, seed: int, folder: Path, deleted: float) -> dict[str, Any]:
    """Fit, answer the test rows, work out what deletions cost, and do one."""
    pipeline = method_of(place, folder, seed, entry)
    train = place.drawn(place.config.private, place.labels, place.rows, seed)
    assert place.config.test is not None
    test = place.drawn(place.config.test, place.labels, place.test_rows, seed)
    gone = frozenset(uniform(train, round(deleted * len(train)), seed))
    if entry.method == "published":
        # Its deletions do not lead to the state of a fresh fit.
        fit, cost = measured(pipeline.backbone, lambda: fitted(entry, pipeline, place, train).without(gone))
        train = [sample for sample in train if sample.sample_id not in gone]
    else:
        train = [sample for sample in train if sample.sample_id not in gone]
        fit, cost = measured(pipeline.backbone, lambda: fitted(entry, pipeline, place, train))
    images_N3PP = pipeline.decode([sample.image for sample in test])
    labels_N = np.array([sample.label for sample in test])
    accuracies = accuracy(fit, images_N3PP, labels_N)
    _, served = measured(pipeline.backbone, answering(fit, images_N3PP[:SERVED_IMAGES]))
    deletions = []
    if entry.method != "retrain" and seed == TIMED_SEED:
        deletions = [
            asdict(measured(pipeline.backbone, lambda name=name: fit.without([name]))[1])
            for name in uniform(train, TIMED_DELETIONS, seed)
        ]
    return {
        "arena": place.name,
        "seed": seed,
        "entry": entry.name,
        "method": entry.method,
        "settings": dict(entry.settings),
        "rows": len(train),
        "test_rows": len(test),
        "epochs": pipeline.config.tuning.epochs,
        "image_px": pipeline.backbone.image_px,
        "accuracy": accuracies,
        "unexplained": unexplained(fit),
        "fit": asdict(cost),
        "serving": {**asdict(served), "images": min(SERVED_IMAGES, len(test))},
        "deletion": deletions,
        "expected_row_passes": expected(fit, train),
        "row_passes_of_requests": requests(fit, train, seed),
        "clusters": cluster_rows(fit),
        "date": datetime.now().date().isoformat(),
        "cores": os.cpu_count(),
        "gpu": accelerator_name(place.config.backbone),
        "load": round(os.getloadavg()[0], 1),
    }


def fitted(entry: Entry, pipeline: Pipeline, place: Arena, train: list[Sample]) -> Any:
    """The entry's method on the training rows."""
    if entry.method == "ours":
        return ClusterPrompts.fit(pipeline, pipeline.rows(train))
    ids = tuple(sample.sample_id for sample in train)
    rows = TuningRows(ids, pipeline.decode([s.image for s in train]), np.array([s.label for s in train]))
    if entry.method == "retrain":
        return Retraining.fit(pipeline, rows, entry.get("tuned", "") == "as_ours")
    if entry.method == "sisa":
        return Sisa.fit(pipeline, rows, entry["shards"], entry["slices"])
    if entry.method == "sampled":
        return SamplePrompt.fit(pipeline, rows, entry["tuned_rows"])
    if entry.method == "ridge":
        if entry["depths"] == "last":
            pipeline = replace(pipeline, feature_map=_last_map(pipeline, place))
        return SharedHeadOnly.fit(pipeline, rows, entry["depths"])
    assert entry.method == "published"
    # The published frame is 30 of 224 pixels.
    pad_px = round(pipeline.backbone.image_px * 30 / 224)
    config = PublishedConfig(
        entry["clusters"], pipeline.config.tuning.epochs, pad_px, pipeline.config.tuning.batch_rows, entry["rate"]
    )
    # The first rows are the first in the order of a hash, as in a shuffled loader.
    order = sorted(range(len(ids)), key=lambda row: draw(pipeline.config.seed, "loader", ids[row]))
    return PublishedLMEraser.fit(
        pipeline, config, TuningRows(tuple(ids[row] for row in order), rows.images_N3PP[order], rows.labels_N[order])
    )


def _last_map(pipeline: Pipeline, place: Arena) -> FeatureMap:
    public = open_source(replace(place.config.public, max_rows=PUBLIC_ROWS_OF_A_MAP))
    images_N3PP = pipeline.decode([sample.image for sample in public.samples(public.labels)])
    raw_NF = raw_features(pipeline, images_N3PP, "last")
    with deterministic():
        return FeatureMap.fit(raw_NF, pipeline.config.heads.head_dim)


def accuracy(fit: Any, images_N3PP: np.ndarray, labels_N: np.ndarray) -> dict[str, float]:
    """Share of right answers; ours by head and by λ, the first at the default λ."""

    def share(scores_NC: np.ndarray) -> float:
        return round(float((scores_NC.argmax(axis=1) == labels_N).mean()), 4)

    if not isinstance(fit, ClusterPrompts):
        return {"accuracy": share(fit.scores(images_N3PP))}
    answers = fit.answers(images_N3PP, own=True)

    def mixed(head: str, scores_NC: np.ndarray) -> dict[str, float]:
        parts = (answers.shared_NC, scores_NC, answers.specialist_N)
        return {f"{head} {weight}": share(blend(*parts, weight, SERVING.temperature)) for weight in WEIGHTS}

    better = fit.heads.pooled_head.better_than(fit.heads.shared_head)
    pooled = mixed("pooled", answers.pooled_NC)
    own = mixed("own", answers.own_NC)
    return {
        # As a replica answers.
        "accuracy": pooled[f"pooled {SERVING.specialist_weight}"] if better else share(answers.shared_NC),
        "shared": share(answers.shared_NC),
        **pooled,
        **own,
    }


def unexplained(fit: Any) -> dict[str, float]:
    """What cross-validation leaves unexplained with each of our heads; nothing of the others."""
    if not isinstance(fit, ClusterPrompts):
        return {}
    return {"shared": fit.heads.shared_head.unexplained, "pooled": fit.heads.pooled_head.unexplained}


def answering(fit: Any, images_N3PP: np.ndarray) -> Callable[[], object]:
    """What answers these images: ours as a replica does, in batches of 64."""
    if not isinstance(fit, ClusterPrompts):
        return lambda: fit.scores(images_N3PP)
    keys = list(fit.specialists)
    entries = [
        ClusterEntry(cluster.key, cluster.region.anchors, cluster.region.bits, cluster.rows, "rows", "leaf")
        for cluster in fit.partition.clusters
    ]
    prompts = [torch.from_numpy(fit.specialists[key].prompt) for key in keys]
    snapshot = Snapshot(
        commit=Commit(tuple(entries), "heads", "leaf", {}, "leaf"),
        prompts_K=torch.stack(prompts) if prompts else torch.zeros(0, *fit.pipeline.prompt_kind.shape),
        specialists=tuple(keys),
        routes=RoutingTable.of_clusters(entries, keys, fit.pipeline.dendrogram.anchors),
        shared_head=fit.heads.shared_head,
        pooled_head=fit.heads.pooled_head,
    )
    predictor = Predictor(fit.pipeline, ServingConfig())
    batches = [images_N3PP[start : start + BATCH_IMAGES] for start in range(0, len(images_N3PP), BATCH_IMAGES)]

    def answer() -> None:
        with deterministic():
            for batch in batches:
                predictor.score(snapshot, [ScoreRequest(batch)])

    return answer


def uniform(train: list[Sample], count: int, seed: int) -> list[str]:
    """Ids drawn uniformly."""
    return sorted((sample.sample_id for sample in train), key=lambda name: draw(seed, "deleted", name))[:count]


def requests(fit: Any, train: list[Sample], seed: int) -> dict[str, float]:
    """Row-passes of requests of several kinds: means over some draws of each."""
    # Where the data names no subjects, each row is one.
    of_subject: dict[str, list[str]] = {}
    for sample in train:
        of_subject.setdefault(sample.subject_id or sample.sample_id, []).append(sample.sample_id)
    of_subjects = [of_subject[name] for name in sorted(of_subject, key=lambda name: draw(seed, "subject", name))[:20]]
    found = {"a subject": float(np.mean([fit.row_passes_of(names) for names in of_subjects]))}
    for size, draws in ((1, 20), (10, 10), (100, 5), (1000, 1)):
        if size < len(train):
            drawn = [uniform(train, size, seed * 100 + number) for number in range(draws)]
            found[f"{size} uniform"] = float(np.mean([fit.row_passes_of(names) for names in drawn]))
    if isinstance(fit, ClusterPrompts):
        # The worst that rows of one cluster can do, a new partition that they force among it.
        for size in (1, 10, 50):
            worst = max(fit.row_passes_of(rows.sample_ids[:size]) for rows in fit.clusters.values())
            found[f"the worst {size} of one cluster"] = worst
    return found


def expected(fit: Any, train: list[Sample]) -> float:
    """Row-passes of deleting one row, the mean over all rows."""
    if isinstance(fit, ClusterPrompts):
        # A partition sees counts only, so every row of a cluster costs the same.
        one_each = [(len(rows), fit.row_passes_of(rows.sample_ids[:1])) for rows in fit.clusters.values()]
        return sum(count * cost for count, cost in one_each) / len(train)
    return float(np.mean([fit.row_passes_of([sample.sample_id]) for sample in train]))


def cluster_rows(fit: Any) -> list[int]:
    """Rows of each cluster or shard, the largest first."""
    if isinstance(fit, ClusterPrompts):
        return sorted((len(rows) for rows in fit.clusters.values()), reverse=True)
    if isinstance(fit, PublishedLMEraser):
        return sorted(np.bincount(fit.cluster_N).tolist(), reverse=True)
    if isinstance(fit, Sisa):
        return sorted((len(shard.rows.sample_ids) for shard in fit.shards if shard is not None), reverse=True)
    return []
