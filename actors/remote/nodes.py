"""The nodes on which owners may run, and how many owners they can hold."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import ray

from actors.remote.placement import Placement

_TUNINGS_PER_GPU = 2
_RESIDENTS = 16
_REFRESH_S = 1.0


class Nodes:
    """The nodes of the Ray cluster, refreshed once a second."""

    def __init__(self, placement: Placement) -> None:
        self._placement = placement
        self._sizes: dict[str, float] = {}
        self._refreshed_s: float | None = None

    def max_residents(self) -> int:
        """How many owners may have a process."""
        if self._placement.max_resident is not None:
            return self._placement.max_resident
        return max(_RESIDENTS, self._capacity() + 1) if self._placement.num_gpus else _RESIDENTS

    def max_tuned(self) -> int:
        """How many of them may have tuned: on GPUs no more than fit, since each holds its share until it ends."""
        return max(1, self._capacity()) if self._placement.num_gpus else self.max_residents()

    def tunings(self) -> int:
        """How many clusters are tuned at once: one per core, or up to two per GPU; one process is kept for erasures."""
        size = int(sum(self._current_sizes().values()))
        if self._placement.num_gpus:
            size *= min(_TUNINGS_PER_GPU, self._placement.owners_per_gpu)
        return max(1, min(size, self.max_residents() - 1))

    def slots(self) -> int:
        """How many owners can each have a device: the share of a GPU that a tuning needs, or a core."""
        return max(1, self._capacity() if self._placement.num_gpus else int(sum(self._current_sizes().values())))

    def lightest(self, rows: Mapping[str, Sequence[int]], tuned: Mapping[str, int] | None) -> str | None:
        """The node with the fewest rows relative to its size that has room; None if there is no choice.

        Args:
            rows: by node id, the rows of each cluster whose owner runs there.
            tuned: by node id, how many of these owners have tuned; None if the new owner will not tune.
        """
        sizes = self._current_sizes()
        if len(sizes) < 2:
            return None
        # Ray makes an actor wait for a full node even if the affinity is soft.
        free = [node_id for node_id in sizes if tuned is None or self._has_room(sizes[node_id], tuned.get(node_id, 0))]
        return min(free, key=lambda node_id: (sum(rows.get(node_id, ())) / sizes[node_id], node_id), default=None)

    def _capacity(self) -> int:
        return int(sum(self._current_sizes().values())) * self._placement.owners_per_gpu

    def _has_room(self, size: float, owners: int) -> bool:
        return not self._placement.num_gpus or owners < int(size) * self._placement.owners_per_gpu

    def _current_sizes(self) -> dict[str, float]:
        """GPUs or cores by node id."""
        now = time.monotonic()
        if self._refreshed_s is None or now - self._refreshed_s > _REFRESH_S:
            resource = "GPU" if self._placement.num_gpus else "CPU"
            self._sizes = {
                node["NodeID"]: node["Resources"][resource]
                for node in ray.nodes()
                if node["Alive"] and node["Resources"].get(resource, 0) > 0 and self._suits(node["Labels"])
            }
            self._refreshed_s = now
        return self._sizes

    def _suits(self, labels: Mapping[str, Any]) -> bool:
        return all(labels.get(name) == value for name, value in self._placement.labels.items())
