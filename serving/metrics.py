"""What a replica reports to Ray's metrics. Never an id, and nothing of an image.

Legend: N images.
"""

from __future__ import annotations

from collections.abc import Sequence

from ray.util.metrics import Counter, Gauge, Histogram

from serving.predictor import Scores

_IMAGES = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096]
_SECONDS = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10]


class ServingMetrics:
    """The metrics of one replica."""

    def __init__(self) -> None:
        # Not labelled by cluster: clusters grow with the rows, and each would be a time series per replica.
        self._predictions = Counter("lmeraser_predictions", "Images predicted, by route.", tag_keys=("route",))
        self._batch_images = Histogram("lmeraser_batch_images", "Images per batch.", boundaries=_IMAGES)
        self._forward_s = Histogram(
            "lmeraser_forward_seconds", "Seconds per batch, from its snapshot to its scores.", boundaries=_SECONDS
        )
        self._commit = Gauge("lmeraser_commit", "Number of the commit that the replica answers from.")
        self._lease_age_s = Gauge(
            "lmeraser_lease_age_seconds",
            "Seconds since the replica last saw in the store that nothing was erased after its commit.",
        )

    def observe_batch(self, batch: Sequence[Scores], seconds: float) -> None:
        """Report the scores of one batch's requests and how long the batch took."""
        images = sum(len(scores.cluster_N) for scores in batch)
        self._batch_images.observe(images)
        self._forward_s.observe(seconds)
        skipped = sum(int(scores.skipped_N.sum()) for scores in batch)
        specialist = sum(int(scores.specialist_N.sum()) for scores in batch)
        counts = {"skipped": skipped, "specialist": specialist, "shared": images - skipped - specialist}
        for route, count in counts.items():
            if count:
                self._predictions.inc(count, {"route": route})

    def observe_lease(self, commit: int, age_s: float) -> None:
        """Report the commit that the replica answers from, and the age of its lease in seconds."""
        self._commit.set(commit)
        self._lease_age_s.set(age_s)
