"""One replica: answers predictions behind the serving fence. Knows nothing of Ray.

Legend: N images, C classes, P pixels per side.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from lmeraser.config import ServingConfig
from lmeraser.data import decode_image
from lmeraser.errors import NotReadyError, UndecodableImageError
from lmeraser.learning.heads import blend
from lmeraser.state.commit import Commit
from lmeraser.state.keys import load_hash_key
from lmeraser.store import Store
from serving.batcher import Batcher
from serving.current_snapshot import CurrentSnapshot
from serving.generations import Generations, LoadedGeneration, ServedCommit, load_ahead
from serving.lease import Lease
from serving.predictor import ScoreRequest, Scores
from serving.problems import problem_of, too_large
from serving.request_body import EncodedImage
from serving.schemas import FailedPrediction, ImagePrediction, PredictAnswer, Problem
from serving.snapshot import Snapshot, load_snapshot

# Called after each batch with its scores and the seconds that it took.
OnBatch = Callable[[Sequence[Scores], float], None]

_ATTEMPTS = 5
_TOP = 5


class Replica:
    """Holds the snapshot of the newest commit, and batches predictions from it.

    :meth:`predict` is for one event loop, everything else for any thread. The replica's own threads end when it is
    garbage-collected.
    """

    def __init__(
        self,
        store: Store,
        keys: Path,
        config: ServingConfig,
        device: Literal["cpu", "cuda"] = "cpu",
        on_batch: OnBatch | None = None,
    ) -> None:
        """Load the public artifacts, run batches of all sizes, and load the first snapshot if there is a commit.

        Raises:
            StoreFormatError: when there is no store.
            KeysError: when there is no hash key.
            ObjectCorruptError: when a public artifact does not have its digest.
            BackboneError: when the backbone is to be compiled and cannot be.
        """
        generations = Generations(store, config, device)
        manifest, hash_key = generations.live.manifest, load_hash_key(keys)
        self.config = config
        self.store_id = manifest.store_id
        self._generations = generations
        self._on_batch = on_batch
        self._batcher = Batcher(self.score, config.max_batch_images)
        self._batcher.first(generations.live.predictor.warm_up)
        self._lease = Lease(store, manifest.lease_s)

        def load(commit: Commit, previous: ServedCommit | None) -> ServedCommit:
            loaded = generations.of(commit.generation)
            reused = previous.snapshot if previous is not None and previous.loaded is loaded else None
            snapshot = load_snapshot(store, loaded.pipeline, commit, hash_key, reused)
            generations.follow(loaded)
            return ServedCommit(loaded, snapshot)

        self._current = current = CurrentSnapshot(self._lease, load)
        current.start()
        lease = self._lease
        end_loading = load_ahead(generations, lambda: lease.rebuild)
        # Ends the threads of this replica, at the latest when it is collected.
        self.close = weakref.finalize(self, _end, current, end_loading)

    def tunes(self, rows: int) -> bool:
        """Whether a cluster with this many rows gets a specialist in the live generation."""
        return self._generations.live.manifest.config.tunes(rows)

    def commit(self) -> Commit:
        """The newest commit, read from the store after this was called.

        Raises:
            NotReadyError: when there is none, or the store cannot be read.
        """
        return self._current.newest()

    def snapshot(self) -> Snapshot:
        """A snapshot that may answer now; does not wait.

        Raises:
            NotReadyError: when there is none.
        """
        return self._current.get().snapshot

    def lease_age_s(self, snapshot: Snapshot) -> float | None:
        """Seconds since a poll showed that nothing was erased after the snapshot's commit; None if too long ago."""
        return self._lease.age_s(snapshot.commit.number)

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores | None]:
        """Score the images of several requests in one heterogeneous batch; blocks.

        Waits some seconds for a snapshot that is being loaded. A request whose images were decoded for another
        generation than the snapshot's gets None.

        Raises:
            NotReadyError: when no snapshot may answer.
        """
        begun = time.perf_counter()
        served = self._current.awaited()
        generation = served.commit.generation
        same = [request for request in requests if request.generation == generation]
        if not same:
            return [None] * len(requests)
        batch = served.loaded.predictor.score(served.snapshot, same)
        ends = np.cumsum([len(request) for request in same])
        scores = [batch.part(end - len(request), end) for request, end in zip(same, ends, strict=True)]
        if self._on_batch is not None:
            self._on_batch(scores, time.perf_counter() - begun)
        answers = iter(scores)
        return [next(answers) if request.generation == generation else None for request in requests]

    async def predict(
        self, images: Sequence[EncodedImage], request_id: str, specialist_weight: float | None = None
    ) -> bytes:
        """Predict images, each decoded independently of the others; returns the JSON of a PredictAnswer.

        Args:
            images: encoded images.
            request_id: named in the problems of images that cannot be used.
            specialist_weight: λ; when None, that of the configuration, or 0 if the pooled head is the worse one.

        Raises:
            NotReadyError: when no commit may answer now.
        """
        weight = self.config.specialist_weight if specialist_weight is None else specialist_weight
        live: LoadedGeneration | None = None
        for _ in range(_ATTEMPTS):
            if live is not (live := self._generations.live):
                config = live.manifest.config
                decoded = await asyncio.to_thread(self._all_decoded, images, config.backbone.image_px, request_id)
                stacked_N3PP = _stacked(decoded, config.backbone.image_px)
                request = ScoreRequest(stacked_N3PP, specialist_weight, live.manifest.generation)
            scores = await self._batcher(request)
            if scores is None:
                continue
            body = self._answer(decoded, scores, weight, config.labels).model_dump_json().encode()
            # As late as possible: rows may have been erased since the batch began.
            if self._lease.holds(scores.commit.number):
                return body
        raise NotReadyError(f"the commit changed during each of {_ATTEMPTS} attempts to answer")

    def _all_decoded(self, images: Sequence[EncodedImage], size: int, request_id: str) -> list[np.ndarray | Problem]:
        return [self._decoded(image, size, request_id) for image in images]

    def _decoded(self, image: EncodedImage, size: int, request_id: str) -> np.ndarray | Problem:
        if isinstance(image, UndecodableImageError):
            return problem_of(image, request_id)
        max_bytes = self.config.images.max_bytes
        if len(image) > max_bytes:
            return too_large(f"the image has {len(image)} bytes; allowed is {max_bytes} (images.max_bytes)", request_id)
        try:
            return decode_image(image, size, self.config.images)
        except UndecodableImageError as error:
            return problem_of(error, request_id)

    def _answer(
        self, decoded: Sequence[np.ndarray | Problem], scores: Scores, weight: float, labels: Sequence[str]
    ) -> PredictAnswer:
        predictions = iter(self._predictions(scores, weight, labels))
        return PredictAnswer(
            predictions=[
                next(predictions) if isinstance(image, np.ndarray) else FailedPrediction(error=image)
                for image in decoded
            ],
            commit=scores.commit.number,
        )

    def _predictions(self, scores: Scores, weight: float, labels: Sequence[str]) -> list[ImagePrediction]:
        probabilities_NC = blend(
            scores.shared_NC, scores.pooled_NC, scores.specialist_N, weight, self.config.temperature
        )
        best_N5 = np.argsort(-probabilities_NC, axis=1, kind="stable")[:, :_TOP]
        probabilities_N5 = np.take_along_axis(probabilities_NC, best_N5, axis=1)
        return [
            ImagePrediction(
                label=labels[best_5[0]],
                probabilities={labels[c]: p for c, p in zip(best_5, probabilities_5, strict=True)},
                cluster=scores.commit.clusters[cluster].key if cluster >= 0 else None,
                route="skipped" if skipped else "specialist" if specialist else "shared",
                commit=scores.commit.number,
            )
            for best_5, probabilities_5, cluster, specialist, skipped in zip(
                best_N5.tolist(),
                probabilities_N5.tolist(),
                scores.cluster_N.tolist(),
                scores.specialist_N.tolist(),
                scores.skipped_N.tolist(),
                strict=True,
            )
        ]


def _end(current: CurrentSnapshot[ServedCommit], end_loading: Callable[[], None]) -> None:
    current.stop()
    end_loading()


def _stacked(decoded: Sequence[np.ndarray | Problem], size: int) -> np.ndarray:
    images = [image for image in decoded if isinstance(image, np.ndarray)]
    return np.stack(images) if images else np.zeros((0, 3, size, size), np.uint8)
