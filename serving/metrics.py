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
        # No label by cluster: clusters grow with the rows, and each would be a series of its own on every replica.
        self._predictions = Counter("lmeraser_predictions", "Images predicted, by route.", tag_keys=("route",))
        self._batch_images = Histogram("lmeraser_batch_images", "Images in one forward pass.", boundaries=_IMAGES)
        self._forward_s = Histogram(
            "lmeraser_forward_seconds", "Seconds of one batch, from its snapshot to its scores.", boundaries=_SECONDS
        )
        self._commit = Gauge("lmeraser_commit", "Number of the commit that the replica answers from.")
        self._lease_age_s = Gauge(
            "lmeraser_lease_age_seconds", "Seconds since the replica saw that nothing was erased after its commit."
        )

    def scored(self, requests: Sequence[Scores], seconds: float) -> None:
        """Report one batch and how long it took."""
        images = sum(len(request.cluster_N) for request in requests)
        self._batch_images.observe(images)
        self._forward_s.observe(seconds)
        skipped = sum(int(request.skipped_N.sum()) for request in requests)
        specialist = sum(int(request.specialist_N.sum()) for request in requests)
        counted = {"skipped": skipped, "specialist": specialist, "shared": images - skipped - specialist}
        for route, count in counted.items():
            if count:
                self._predictions.inc(count, {"route": route})

    def seen(self, commit: int, lease_age_s: float) -> None:
        """Report the commit that the replica answers from, and how long ago it was seen to be the newest."""
        self._commit.set(commit)
        self._lease_age_s.set(lease_age_s)
