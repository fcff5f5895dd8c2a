"""A rebuild without Ray: what the job does, step by step, and what a fresh store of the new configuration has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
from small_system import System, samples

from actors.coordinator import Coordinator
from actors.ingests import IngestOutcome
from actors.refill import draft_samples, live_batches, put_missing
from lmeraser.config import StateConfig
from lmeraser.data import Sample
from lmeraser.errors import NotReadyError, RequestError
from lmeraser.proof.recompute import fresh_leaves
from lmeraser.state.draft_rows import DraftRows
from lmeraser.state.layout import MANIFEST
from lmeraser.state.manifest import draft_of, load_manifest
from lmeraser.state.merkle import merkle_root
from lmeraser.state.pipeline import Pipeline
from lmeraser.state.pipeline_loading import load_pipeline, open_pipeline
from lmeraser.state.provenance import same_public_artifacts
from lmeraser.state.public_artifacts import PublicArtifacts, create_draft, create_store, load_public
from lmeraser.state.public_fit import build_public
from lmeraser.store import LocalStore

PUBLIC = samples(1000, 1096)
Changed = Callable[[StateConfig], StateConfig]

# Changes of a configuration, by what is changed.
CHANGES: dict[str, Changed] = {
    "a label": lambda config: replace(config, labels=(*config.labels, "violet")),
    "the order of the labels": lambda config: replace(config, labels=config.labels[::-1]),
    "larger clusters": lambda config: replace(config, partition=replace(config.partition, max_cluster_rows=12)),
    "the coreset": lambda config: replace(config, tuning=replace(config.tuning, coreset_rows=4)),
    "more anchors": lambda config: replace(config, partition=replace(config.partition, anchors=8)),
    "the routing block": lambda config: replace(config, partition=replace(config.partition, routing_block=2)),
    "the seed": lambda config: replace(config, seed=5),
    "the size of images": lambda config: replace(config, backbone=replace(config.backbone, image_px=32)),
    "fewer features": lambda config: replace(config, heads=replace(config.heads, head_dim=8)),
    "the prompt": lambda config: replace(config, prompt=replace(config.prompt, tokens=3)),
}


def artifacts_of(system: System, config: StateConfig) -> PublicArtifacts:
    """The public artifacts of a configuration over the backbone of the system, always fitted anew."""
    live = system.manifest
    state = open_pipeline(live.config, load_public(system.store, live)).backbone.model.state_dict()
    return build_public(config, state, PUBLIC)


def fresh_root(system: System, config: StateConfig, rows: list[Sample], folder: Path) -> str:
    """The root of a fresh store of this configuration, with these rows."""
    store = LocalStore(folder)
    manifest = create_store(store, config, artifacts_of(system, config))
    return merkle_root(fresh_leaves(load_pipeline(store, manifest), manifest, system.hash_key, rows))


@dataclass
class Rebuild:
    """A rebuild of a system to another configuration.

    Attributes:
        system: the system.
        config: the new configuration.
        renamed: live labels that have another name in it.
        generation: what is made; empty before :meth:`begin`.
    """

    system: System
    config: StateConfig
    renamed: Mapping[str, str] = field(default_factory=dict)
    generation: str = ""

    def begin_only(self, coordinator: Coordinator) -> None:
        """Begin it, or go on with one that was begun, and have the draft opened."""
        store, live = self.system.store, self.system.manifest
        same = same_public_artifacts(live, self.config)
        artifacts = load_public(store, live) if same else artifacts_of(self.system, self.config)
        self.generation = coordinator.rebuilds.generation or coordinator.rebuilds.begin()
        if not draft_of(store, self.generation).exists(MANIFEST):
            create_draft(store, self.generation, self.config, artifacts, self.renamed)
        coordinator.rebuilds.open()

    def begin(self, coordinator: Coordinator) -> None:
        """The same; returns once the draft is open."""
        self.begin_only(coordinator)
        while (status := coordinator.rebuilds.status()) is not None and status.draft is None:
            coordinator.step()

    def fill(self, coordinator: Coordinator) -> None:
        """One round: have the draft filled with what it lacks."""
        store, hash_key = self.system.store, self.system.hash_key
        have_M = draft_samples(store, hash_key, self.generation)
        for batch in live_batches(store):
            self.fill_with(coordinator, batch, have_M)

    def fill_with(self, coordinator: Coordinator, batch: list, have_M: np.ndarray) -> IngestOutcome | None:  # type: ignore[type-arg]
        prefix = coordinator.rebuilds.begin_fill()
        rows = self.rows()
        put_missing(self.system.store, self.system.hash_key, self.generation, rows, have_M, prefix, batch)
        try:
            outcome = coordinator.rebuilds.fill(prefix)
        except RequestError:
            return None
        while not outcome.done():
            coordinator.step()
        return None if isinstance(outcome.exception(), RequestError) else outcome.result()

    def rows(self) -> DraftRows:
        manifest = load_manifest(draft_of(self.system.store, self.generation))
        return DraftRows(self.system.manifest, manifest, self.renamed, self.pipeline)

    @cache  # noqa: B019
    def pipeline(self) -> Pipeline:
        draft = draft_of(self.system.store, self.generation)
        return load_pipeline(draft, load_manifest(draft))

    __hash__ = object.__hash__

    def finish(self, coordinator: Coordinator) -> Coordinator:
        """Fill the draft until the coordinator has switched to it; gives the coordinator of the new generation."""
        for _ in range(20):
            try:
                self.fill(coordinator)
            except NotReadyError:
                coordinator.step()
                continue
            while coordinator.step() or coordinator.rebuilds.draft.works:
                if coordinator.rebuilds.switched:
                    break
            if coordinator.rebuilds.switched:
                return self.system.coordinator()
        raise AssertionError(f"the rebuild does not end: {coordinator.rebuilds.status()}")
