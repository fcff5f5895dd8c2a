"""Making a store: Ray workers compute the public artifacts from the public rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from queue import Queue
from typing import Any

import ray
import torch

from cluster.trained_weights import weights_name
from lmeraser.config import Config, ImagesConfig, SourceConfig, StateConfig
from lmeraser.data import (
    Sample,
    SourceReport,
    check_samples,
    declared_labels,
    located,
    open_public,
    open_source,
    sample_chunks,
)
from lmeraser.errors import BackboneError, ConfigError
from lmeraser.learning.backbone import Backbone
from lmeraser.learning.prompts import prompt_kind
from lmeraser.learning.public_prompt import learn_public_prompt
from lmeraser.progress import Progress
from lmeraser.state.keys import load_signing_key, public_pem
from lmeraser.state.layout import MANIFEST, PUBLIC_KEY
from lmeraser.state.manifest import Manifest, load_manifest
from lmeraser.state.pipeline_loading import open_routed
from lmeraser.state.public_artifacts import PublicArtifacts, create_store
from lmeraser.state.public_fit import (
    PUBLIC_CHUNK,
    PublicFeatures,
    backbone_digest,
    check_public_rows,
    fit_public,
    public_features,
)
from lmeraser.state.tensors import tensors_from_bytes
from lmeraser.store import Store

State = dict[str, torch.Tensor]
_STEPS_PER_REPORT = 10


@dataclass(frozen=True)
class BuildResult:
    """A store, and what was left out when it was made; nothing if it existed before.

    Attributes:
        manifest: the store's.
        skipped: why public images were left out, by sample id.
        source: what the public source left out.
    """

    manifest: Manifest
    skipped: Mapping[str, str] = field(default_factory=dict)
    source: SourceReport = field(default_factory=SourceReport)


def open_or_build(config: Config, store: Store, keys: Path, report: Progress, *, skip_bad: bool = False) -> BuildResult:
    """Open the store, or make it from the public rows if it does not exist yet.

    Args:
        config: the configuration.
        store: the store, which may be empty.
        keys: the key folder.
        report: called with what is being done, how much of it is done, and how much there is.
        skip_bad: leave undecodable public images out instead of refusing.

    Raises:
        ConfigError: when the store was made with another configuration.
        BackboneError: when the backbone cannot be opened, must be trained first, or its weights do not have the digest
            that ``backbone_digest`` pins.
        DataError: when the public rows cannot be used, or are fewer than the anchors.
        KeysError: when the signing key is missing.
        StoreError: when Store.check refuses the store's location.
    """
    # Fail before any work if the private source cannot be read.
    opened = open_source(config.private, images=config.images)
    state_config = config.state(config.labels or opened.labels or declared_labels(config.private))
    if store.exists(MANIFEST):
        manifest = load_manifest(store)
        _check_same(manifest.config, state_config, store.uri, labels_are_listed=bool(config.labels))
        manifest.check_lease(config.lease_s)
        _check_digest(manifest.public_digests["backbone"], config.backbone_digest)
        return BuildResult(manifest)
    public_key = load_signing_key(keys).public_key()
    store.check()
    fitted = fit(config, state_config, store, report, skip_bad=skip_bad)
    store.put(PUBLIC_KEY, public_pem(public_key))
    manifest = create_store(store, state_config, fitted.artifacts, config.lease_s)
    return BuildResult(manifest, fitted.skipped, fitted.source)


@dataclass(frozen=True)
class FittedArtifacts:
    """Public artifacts, and what was left out when they were made; see :class:`BuildResult`."""

    artifacts: PublicArtifacts
    skipped: Mapping[str, str]
    source: SourceReport


def fit(
    config: Config, state_config: StateConfig, store: Store, report: Progress, *, skip_bad: bool
) -> FittedArtifacts:
    """Compute the public artifacts from the public rows.

    Args:
        config: says where the public rows are.
        state_config: the part of it that determines the state.
        store: may hold trained weights.
        report, skip_bad: see :func:`open_or_build`.

    Raises:
        BackboneError, DataError: see :func:`open_or_build`.
    """
    public = located(config.public)
    left_out = SourceReport()
    opened = open_public(public, config.images, left_out)
    check = check_samples(opened.samples(opened.labels), opened.labels, skip_bad=skip_bad, images=config.images)
    rows = sum(1 for _ in check)
    check_public_rows(state_config, rows)
    skipped = frozenset(check.skipped)
    backbone = open_routed(state_config, replace(state_config.backbone, device="cpu"), _trained(config, store))
    if config.backbone_digest:
        _check_digest(backbone_digest(backbone), config.backbone_digest)
    artifacts = _artifacts(state_config, backbone, _Public(public, config.images, skipped), rows, report)
    return FittedArtifacts(artifacts, check.skipped, left_out)


@dataclass(frozen=True)
class _Public:
    """How each process reads the public rows."""

    source: SourceConfig
    images: ImagesConfig
    skipped: frozenset[str]

    def samples(self, num_shards: int = 1, index: int = 0) -> Iterator[Sample]:
        opened = open_public(self.source, self.images)
        samples = opened.shard(num_shards, index).samples(opened.labels)
        return (sample for sample in samples if sample.sample_id not in self.skipped)


def _artifacts(
    config: StateConfig, backbone: Backbone, public: _Public, rows: int, report: Progress
) -> PublicArtifacts:
    """Features of the public rows, by a worker per core or GPU but none for less than a chunk; then the fit."""
    on_gpu = config.backbone.device == "cuda"
    # Fail before any work if the prompt does not fit.
    prompt_kind(config.prompt, backbone)
    parts: dict[tuple[int, int], PublicFeatures] = {}
    # The weights go to each node once.
    state = ray.put(backbone.model.state_dict())
    device = {"num_cpus": 1, "num_gpus": 1 if on_gpu else 0}
    public_prompt = _public_prompt(config, public, state, device, report)
    cores = int(ray.cluster_resources().get("GPU" if on_gpu else "CPU", 1))
    # A worker needs longer to start than to read a chunk.
    workers = max(1, min(cores, -(-rows // PUBLIC_CHUNK)))
    extract = _extract_public.options(**device)
    streams = {extract.remote(config, public, state, public_prompt, workers, index): index for index in range(workers)}
    while streams:
        ready, _ = ray.wait(list(streams), num_returns=1, timeout=1.0)
        for stream in ready:
            try:
                number, part = ray.get(next(stream))
            except StopIteration:
                del streams[stream]
                continue
            # Shards in order are the source in order, so the fit sees the rows in one order for any number of workers.
            parts[streams[stream], number] = part
            report("public rows", sum(len(part.routing_NR) for part in parts.values()), rows)
    return fit_public(config, backbone, public_prompt, [parts[position] for position in sorted(parts)])


def _public_prompt(
    config: StateConfig,
    public: _Public,
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
    config: StateConfig, public: _Public, state: State
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
def _extract_public(
    config: StateConfig,
    public: _Public,
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


def _trained(config: Config, store: Store) -> State | None:
    """The weights that ``lmeraser pretrain`` put into the store; None unless the configuration uses them."""
    if config.backbone.weights != "trained" or not store.exists(name := weights_name(config)):
        return None
    tensors = tensors_from_bytes(store.get(name), name)
    return {key: torch.from_numpy(array) for key, array in tensors.items()}


def _check_digest(digest: str, pinned: str) -> None:
    if not digest.startswith(pinned):
        raise BackboneError(f"the backbone's weights have the digest {digest}, but backbone_digest is {pinned}")


def _check_same(stored: StateConfig, requested: StateConfig, uri: str, labels_are_listed: bool) -> None:
    before, now = _flat(asdict(stored)), _flat(asdict(requested))
    differing = [
        f"{name} is {before.get(name)!r} there and {now.get(name)!r} here"
        for name in sorted(set(before) | set(now))
        if before.get(name) != now.get(name)
    ]
    if differing:
        remedy = "`lmeraser rebuild` gives the store this configuration"
        if stored.labels != requested.labels and not labels_are_listed:
            # One batch of rows need not contain every label.
            listed = json.dumps(stored.labels, ensure_ascii=False)
            remedy = f"List the store's labels in the configuration, as `labels: {listed}`"
        raise ConfigError(f"{uri} was made with another configuration: {'; '.join(differing)}. {remedy}")


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, item in value.items():
        flat |= _flat(item, f"{prefix}{name}.") if isinstance(item, dict) else {f"{prefix}{name}": item}
    return flat
