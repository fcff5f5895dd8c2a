"""One replica: answers predictions behind the serving fence. Knows nothing of Ray.

Legend: N images, P pixels a side.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from lmeraser.config import ServingConfig
from lmeraser.data import decode_image
from lmeraser.errors import NotReadyError, UndecodableImageError
from lmeraser.learning.heads import blend
from lmeraser.state.commit import Commit
from lmeraser.state.keys import load_hash_key
from lmeraser.state.manifest import load_manifest
from lmeraser.state.pipeline_loading import open_pipeline
from lmeraser.state.public_artifacts import load_public
from lmeraser.store import Store
from serving.current_snapshot import CurrentSnapshot
from serving.lease import Lease
from serving.predictor import Predictor, ScoreRequest, Scores
from serving.problems import problem_of, too_large
from serving.request_body import EncodedImage
from serving.schemas import FailedPrediction, ImagePrediction, PredictAnswer, Problem
from serving.snapshot import Snapshot, load_snapshot

Forward = Callable[[ScoreRequest], Awaitable[Scores]]

_ATTEMPTS = 5
_TOP = 5


class Replica:
    """Holds the snapshot of the newest commit. May be used from several threads; its own end once it is let go."""

    def __init__(self, store: Store, keys: Path, config: ServingConfig, device: Literal["cpu", "cuda"] = "cpu") -> None:
        """Load the public artifacts, run a first batch, and load the first snapshot where there is one.

        Raises:
            StoreFormatError: when there is no store.
            KeysError: when there is no hash key.
            ObjectCorruptError: when a public artifact does not have its digest.
            BackboneError: when the backbone is to be compiled and cannot be.
        """
        manifest = load_manifest(store)
        # Answers do not enter the state, so a replica may run under other numerics than the owners.
        backbone = replace(manifest.config.backbone, device=device)
        state_config = open_pipeline(replace(manifest.config, backbone=backbone), load_public(store, manifest))
        if config.compile:
            state_config.backbone.compile()
        hash_key = load_hash_key(keys)
        self._pipeline = state_config
        self._predictor = Predictor(state_config, config)
        self._predictor.warm_up()
        self._lease = Lease(store, manifest.lease_s)
        self._current = CurrentSnapshot(
            self._lease, lambda commit, previous: load_snapshot(store, state_config, commit, hash_key, previous)
        )
        self._config = config
        self.store_id = manifest.store_id
        self.tunes = manifest.config.tunes
        self.config = config
        self._current.start()
        weakref.finalize(self, self._current.stop)

    def commit(self) -> Commit:
        """The newest commit, as just seen in the store.

        Raises:
            NotReadyError: when there is none, or the store cannot be read.
        """
        return self._current.newest()

    def snapshot(self) -> Snapshot:
        """A snapshot that may answer now; waits for nothing.

        Raises:
            NotReadyError: when there is none.
        """
        return self._current.get()

    def lease_age_s(self, snapshot: Snapshot) -> float | None:
        """Seconds since nothing was seen to be erased after the snapshot's commit; None when that was too long ago."""
        return self._lease.age_s(snapshot.commit.number)

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
        """Scores of several requests' images in one heterogeneous batch; waits some seconds for a snapshot that is
        coming.

        Raises:
            NotReadyError: when no snapshot may answer.
        """
        scored = self._predictor.score(self._current.awaited(), requests)
        ends = np.cumsum([len(request) for request in requests])
        return [scored.part(end - len(request), end) for request, end in zip(requests, ends, strict=True)]

    async def predict(
        self, images: Sequence[EncodedImage], forward: Forward, request_id: str, specialist_weight: float | None = None
    ) -> bytes:
        """Predict images, each decoded apart from the others; the JSON of a PredictAnswer.

        Args:
            images: encoded images.
            forward: passes decoded images to :meth:`score`, perhaps together with those of other requests.
            request_id: named in the problems of images that cannot be used.
            specialist_weight: λ; when None that of the configuration, where the pooled head is better than the shared.

        Raises:
            NotReadyError: when no commit may answer now.
        """
        decoded = await asyncio.to_thread(self._decoded, images, request_id)
        weight = self._config.specialist_weight if specialist_weight is None else specialist_weight
        images_N3PP = self._stacked([image for image in decoded if isinstance(image, np.ndarray)])
        for _ in range(_ATTEMPTS):
            scored = await forward(ScoreRequest(images_N3PP, with_specialists=specialist_weight is not None))
            predictions = iter(self._predictions(scored, weight))
            answer = PredictAnswer(
                predictions=[
                    next(predictions) if isinstance(image, np.ndarray) else FailedPrediction(error=image)
                    for image in decoded
                ],
                commit=scored.commit.number,
            )
            body = answer.model_dump_json().encode()
            # As late as can be: something may have been erased since the batch began.
            if self._lease.holds(scored.commit.number):
                return body
        raise NotReadyError(f"the commit changed during the answer, {_ATTEMPTS} times over")

    def _decoded(self, images: Sequence[EncodedImage], request_id: str) -> list[np.ndarray | Problem]:
        return [self._decoded_one(image, request_id) for image in images]

    def _decoded_one(self, image: EncodedImage, request_id: str) -> np.ndarray | Problem:
        if isinstance(image, UndecodableImageError):
            return problem_of(image, request_id)
        most = self._config.images.max_bytes
        if len(image) > most:
            return too_large(f"the image has {len(image)} bytes; allowed is {most} (images.max_bytes)", request_id)
        try:
            return decode_image(image, self._pipeline.config.backbone.image_px, self._config.images)
        except UndecodableImageError as error:
            return problem_of(error, request_id)

    def _stacked(self, images: Sequence[np.ndarray]) -> np.ndarray:
        size = self._pipeline.config.backbone.image_px
        return np.stack(images) if images else np.zeros((0, 3, size, size), np.uint8)

    def _predictions(self, scored: Scores, weight: float) -> list[ImagePrediction]:
        labels = self._pipeline.config.labels
        probabilities_NC = blend(
            scored.shared_NC, scored.pooled_NC, scored.specialist_N, weight, self._config.temperature
        )
        best_N5 = np.argsort(-probabilities_NC, axis=1, kind="stable")[:, :_TOP]
        probabilities_N5 = np.take_along_axis(probabilities_NC, best_N5, axis=1)
        return [
            ImagePrediction(
                label=labels[best_5[0]],
                probabilities={labels[c]: p for c, p in zip(best_5, probabilities_5, strict=True)},
                cluster=scored.commit.clusters[cluster].key if cluster >= 0 else None,
                route="skipped" if skipped else "specialist" if specialist and weight > 0 else "shared",
                commit=scored.commit.number,
            )
            for best_5, probabilities_5, cluster, specialist, skipped in zip(
                best_N5.tolist(),
                probabilities_N5.tolist(),
                scored.cluster_N.tolist(),
                scored.specialist_N.tolist(),
                scored.skipped_N.tolist(),
                strict=True,
            )
        ]
