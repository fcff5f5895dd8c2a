"""Ray workers that compute the public artifacts from the public rows."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import Queue
from typing import Any

import ray
import torch

from lmeraser.config import ImagesConfig, SourceConfig, StateConfig
from lmeraser.data import Sample, open_public, sample_chunks
from lmeraser.learning.backbone import Backbone
from lmeraser.learning.moments import FeatureGrid, Moments
from lmeraser.learning.prompts import prompt_kind
from lmeraser.learning.public_prompt import learn_public_prompt
from lmeraser.progress import Progress
from lmeraser.state.pipeline_loading import open_routed
from lmeraser.state.public_artifacts import PublicArtifacts
from lmeraser.state.public_draw import PublicDraw
from lmeraser.state.public_fit import (
    PUBLIC_CHUNK,
    DrawnRows,
    PublicFeatures,
    drawn_rows,
    fit_public,
    fit_public_moments,
    grid_of,
    public_features,
)

State = dict[str, torch.Tensor]
_STEPS_PER_REPORT = 10


@dataclass(frozen=True)
class PublicRows:
    """How each process reads the public rows.

    Attributes:
        source: where they are, with an absolute path.
        images: which images are accepted.
        skipped: sample ids of rows that are left out.
    """

    source: SourceConfig
    images: ImagesConfig
    skipped: frozenset[str]

    def samples(self, num_shards: int = 1, index: int = 0) -> Iterator[Sample]:
        """The rows of one part of the source."""
        opened = open_public(self.source, self.images)
        samples = opened.shard(num_shards, index).samples(opened.labels)
        return (sample for sample in samples if sample.sample_id not in self.skipped)


def fit_artifacts(
    config: StateConfig, backbone: Backbone, public: PublicRows, draw: PublicDraw, report: Progress
) -> PublicArtifacts:
    """The public artifacts, with features by a worker per core or GPU but none for less than a chunk.

    Args:
        config: the part of the configuration that determines the state.
        backbone: the same in this process, on the CPU.
        public: the rows.
        draw: which of them are drawn.
        report: called with what is being done, how much of it is done, and how much there is.

    Raises:
        BackboneError: when the backbone cannot take the prompt.
    """
    on_gpu = config.backbone.device == "cuda"
    # Fail before any work if the prompt does not fit.
    prompt_kind(config.prompt, backbone)
    # The weights go to each node once.
    state = ray.put(backbone.model.state_dict())
    device = {"num_cpus": 1, "num_gpus": 1 if on_gpu else 0}
    public_prompt = _public_prompt(config, public, state, device, report)
    cores = int(ray.cluster_resources().get("GPU" if on_gpu else "CPU", 1))
    # A worker needs longer to start than to read a chunk.
    workers = max(1, min(cores, -(-draw.rows // PUBLIC_CHUNK)))
    if draw.is_whole:
        extract = _extract.options(**device)
        parts: dict[tuple[int, int], PublicFeatures] = {}
        streams = [extract.remote(config, public, state, public_prompt, workers, index) for index in range(workers)]
        for index, (number, part) in _items(streams):
            # Shards in order are the source in order, so the fit sees the rows in one order for any number of workers.
            parts[index, number] = part
            report("public rows", sum(len(part.routing_NR) for part in parts.values()), draw.rows)
        return fit_public(config, backbone, public_prompt, [parts[position] for position in sorted(parts)])
    grid, batch = ray.get(_grid.options(**device).remote(config, state, public_prompt, draw))
    total, drawn, done = Moments(grid), list[DrawnRows](), 0
    sums = _sum.options(**device)
    shared = ray.put(draw.without_samples())
    streams = [
        sums.remote(config, public, state, public_prompt, shared, grid, batch, workers, index)
        for index in range(workers)
    ]
    for _, item in _items(streams):
        if isinstance(item, Moments):
            total.merge(item)
        else:
            rows, part = item
            drawn.append(part)
            done += rows
            report("public rows", done, draw.rows)
    return fit_public_moments(config, backbone, public_prompt, total, drawn, batch)


def _items(streams: list[Any]) -> Iterator[tuple[int, Any]]:
    """What the workers yield as it comes, with the worker's number."""
    index_of = {stream: index for index, stream in enumerate(streams)}
    while index_of:
        ready, _ = ray.wait(list(index_of), num_returns=1, timeout=1.0)
        for stream in ready:
            try:
                item = ray.get(next(stream))
            except StopIteration:
                del index_of[stream]
                continue
            yield index_of[stream], item


def _public_prompt(
    config: StateConfig,
    public: PublicRows,
    state: ray.ObjectRef[State],
    device: dict[str, int],
    report: Progress,
) -> torch.Tensor | None:
    """The public prompt, tuned by one worker, because each step depends on the one before."""
    if config.prompt.public_epochs == 0:
        return None
    public_prompt: torch.Tensor | None = None
    for reference in _learn_public_prompt.options(**device).remote(config, public, state):
        step = ray.get(reference)
        if isinstance(step, tuple):
            report("public prompt, steps", *step)
        else:
            public_prompt = step
    return public_prompt


@ray.remote
def _learn_public_prompt(
    config: StateConfig, public: PublicRows, state: State
) -> Iterator[tuple[int, int] | torch.Tensor | None]:
    """Yields steps done and steps in total, once per few steps; at the end the public prompt."""
    backbone = open_routed(config, config.backbone, state)
    steps: Queue[tuple[int, int] | None] = Queue()

    def learn() -> torch.Tensor | None:
        try:
            return learn_public_prompt(backbone, config, public.samples(), lambda *step: steps.put(step))
        finally:
            steps.put(None)

    with ThreadPoolExecutor(1) as thread:
        learning = thread.submit(learn)
        while (step := steps.get()) is not None:
            if step[0] % _STEPS_PER_REPORT == 0:
                yield step
        yield learning.result()


@ray.remote
def _extract(
    config: StateConfig,
    public: PublicRows,
    state: State,
    public_prompt: torch.Tensor | None,
    workers: int,
    index: int,
) -> Iterator[tuple[int, PublicFeatures]]:
    """The chunks of part ``index`` of ``workers`` of the public rows, numbered in order."""
    backbone = open_routed(config, config.backbone, state)
    batch = None
    for number, chunk in enumerate(sample_chunks(public.samples(workers, index), PUBLIC_CHUNK)):
        part = public_features(config, backbone, public_prompt, chunk, batch)
        batch = part.feature_batch
        yield number, part


@ray.remote
def _grid(
    config: StateConfig, state: State, public_prompt: torch.Tensor | None, draw: PublicDraw
) -> tuple[FeatureGrid, int]:
    """See grid_of."""
    return grid_of(config, open_routed(config, config.backbone, state), public_prompt, draw)


# The worker ends with its task: it would keep the sums otherwise.
@ray.remote(max_calls=1)
def _sum(
    config: StateConfig,
    public: PublicRows,
    state: State,
    public_prompt: torch.Tensor | None,
    draw: PublicDraw,
    grid: FeatureGrid,
    batch: int,
    workers: int,
    index: int,
) -> Iterator[tuple[int, DrawnRows] | Moments]:
    """Part ``index`` of ``workers``: each chunk's number of rows and those that are drawn; at the end the moments."""
    backbone = open_routed(config, config.backbone, state)
    moments = Moments(grid)
    for chunk in sample_chunks(public.samples(workers, index), PUBLIC_CHUNK):
        features = public_features(config, backbone, public_prompt, chunk, batch)
        moments.add(features.head_NF)
        yield len(chunk), drawn_rows(config, draw, chunk, features)
    yield moments
