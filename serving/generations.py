"""The generations that a replica can answer from: backbone, heads' features and anchors, loaded and warmed up.

Mostly there is one. While a rebuild is under way its draft is loaded ahead, so that the replica follows the switch at
once (design 7).
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from lmeraser.config import ServingConfig
from lmeraser.errors import LMEraserError
from lmeraser.state.commit import Commit
from lmeraser.state.manifest import Manifest, load_manifest, promoted
from lmeraser.state.pipeline import Pipeline
from lmeraser.state.pipeline_loading import open_pipeline
from lmeraser.state.public_artifacts import load_public
from lmeraser.store import Store
from serving.predictor import Predictor
from serving.snapshot import Snapshot

_LOOK_S = 2.0
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedGeneration:
    """What a replica needs of a generation besides its commits.

    Attributes:
        manifest: of the generation.
        pipeline: on the replica's device.
        predictor: its forward passes.
    """

    manifest: Manifest
    pipeline: Pipeline
    predictor: Predictor


@dataclass(frozen=True)
class ServedCommit:
    """A snapshot, and the generation that answers from it."""

    loaded: LoadedGeneration
    snapshot: Snapshot

    @property
    def commit(self) -> Commit:
        return self.snapshot.commit


class Generations:
    """Loads generations of one store. Safe to use from several threads.

    Attributes:
        live: the generation of the newest commit that was loaded.
    """

    def __init__(self, store: Store, config: ServingConfig, device: Literal["cpu", "cuda"]) -> None:
        """Load the live generation; it is not warmed up. Raises as serving.replica.Replica does."""
        self._store = store
        self._config = config
        self._device = device
        self._lock = threading.Lock()
        self.live = self._loaded(load_manifest(store))
        self._known = {self.live.manifest.generation: self.live}

    def of(self, generation: str) -> LoadedGeneration:
        """A generation that is known, or is loaded and warmed up now.

        Raises:
            StoreFormatError: when the store has no such generation.
            ObjectCorruptError: when a public artifact does not have its digest.
        """
        if (known := self._known.get(generation)) is not None:
            return known
        with self._lock:
            if generation not in self._known:
                manifest = load_manifest(self._store)
                if manifest.generation != generation:
                    manifest = promoted(self._store, manifest, generation)
                loaded = self._loaded(manifest)
                loaded.predictor.warm_up()
                # Replaced as a whole, because it is read without the lock. A draft that was abandoned is forgotten.
                self._known = {self.live.manifest.generation: self.live, generation: loaded}
            return self._known[generation]

    def follow(self, loaded: LoadedGeneration) -> None:
        """Make this the live generation, and forget the others."""
        if loaded is not self.live:
            with self._lock:
                self.live = loaded
                self._known = {loaded.manifest.generation: loaded}

    def _loaded(self, manifest: Manifest) -> LoadedGeneration:
        # Answers are not part of the state, so a replica may use other numerics than the owners.
        backbone = replace(manifest.config.backbone, device=self._device)
        pipeline = open_pipeline(replace(manifest.config, backbone=backbone), load_public(self._store, manifest))
        if self._config.compile:
            pipeline.backbone.compile()
        return LoadedGeneration(manifest, pipeline, Predictor(pipeline, self._config))


def load_ahead(generations: Generations, rebuild: Callable[[], str | None]) -> Callable[[], None]:
    """Load the draft of each rebuild in a thread of its own; gives the function that ends the thread.

    Args:
        generations: which it is added to.
        rebuild: the generation that is being made; None if none is.
    """
    ended = threading.Event()
    kept = weakref.ref(generations)

    def look() -> None:
        while not ended.wait(_LOOK_S):
            known = kept()
            if known is None:
                return
            if (generation := rebuild()) is not None:
                try:
                    known.of(generation)
                except LMEraserError as error:
                    # The job that makes the draft has not written it yet, or it was abandoned.
                    logger.info("generation %s cannot be loaded ahead: %s", generation, error)
            del known

    threading.Thread(target=look, name="drafts", daemon=True).start()
    return ended.set
