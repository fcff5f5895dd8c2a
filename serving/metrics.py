"""What a replica reports to Ray's metrics. Never an id, and nothing of an image.

Legend: N images.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Sequence

from ray.util.metrics import Counter, Gauge, Histogram

from serving.predictor import Scored

_IMAGES = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096]
_SECONDS = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10]
_NO_CLUSTER = "none"


class ServingMetrics:
    """The metrics of one replica."""

    def __init__(self) -> None:
        self._predictions = Counter(
            "lmeraser_predictions", "Images predicted, by cluster and route.", tag_keys=("cluster", "route")
        )
        self._batch_images = Histogram("lmeraser_batch_images", "Images in one forward pass.", boundaries=_IMAGES)
        self._forward_s = Histogram(
            "lmeraser_forward_seconds", "Seconds of one batch, from its bank to its scores.", boundaries=_SECONDS
        )
        self._commit = Gauge("lmeraser_commit", "Number of the commit that the replica answers from.")
        self._lease_age_s = Gauge(
            "lmeraser_lease_age_seconds", "Seconds since the replica saw that its commit is the newest."
        )

    def scored(self, requests: Sequence[Scored], seconds: float) -> None:
        """Report one batch, request by request, and how long it took."""
        self._batch_images.observe(sum(len(request.cluster_N) for request in requests))
        self._forward_s.observe(seconds)
        tally: Tally[tuple[str, str]] = Tally()
        for request in requests:
            clusters = request.commit.clusters
            columns = (request.cluster_N, request.specialist_N, request.skipped_N)
            for place, specialist, skipped in zip(*(column.tolist() for column in columns), strict=True):
                route = "skipped" if skipped else "specialist" if specialist else "shared"
                tally[clusters[place].key if place >= 0 else _NO_CLUSTER, route] += 1
        for (cluster, route), images in tally.items():
            self._predictions.inc(images, {"cluster": cluster, "route": route})

    def seen(self, commit: int, lease_age_s: float) -> None:
        """Report the commit that the replica answers from, and how long ago it was seen to be the newest."""
        self._commit.set(commit)
        self._lease_age_s.set(lease_age_s)
