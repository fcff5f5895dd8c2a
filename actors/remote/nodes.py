"""On which nodes owners may run, and how many of them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray

# The rest of a GPU is for a Serve replica, its successor while new code is rolled out, and a worker of an ingest.
OWNERS_PART_OF_GPU = 0.7
OTHERS_PART_OF_GPU = 0.1
ACCELERATOR_LABEL = "ray.io/accelerator-type"
_TUNINGS_PER_GPU = 2
_RESIDENTS = 16
_LOOK_S = 1.0


@dataclass(frozen=True)
class Placement:
    """Where owners run. Ray persists it with the coordinator.

    Attributes:
        num_cpus: what Ray reserves for one owner, and for the coordinator.
        num_gpus: what Ray reserves for an owner that tunes; one that does not holds nothing of a GPU.
        accelerator: type of GPU that their node must have; any when empty.
        max_resident: owners that have a process at a time; None for 16, or one more than fit on the GPUs.
        idle_s: seconds without a call after which an owner's process may go.
    """

    num_cpus: float
    num_gpus: float
    accelerator: str
    max_resident: int | None
    idle_s: float

    @property
    def owners_per_gpu(self) -> int:
        """How many owners share a GPU beside what else runs on it."""
        return max(1, int(OWNERS_PART_OF_GPU / self.num_gpus + 1e-9))


class Nodes:
    """The nodes that there are now; they are looked at once a second."""

    def __init__(self, placement: Placement) -> None:
        self._placement = placement
        self._sizes: dict[str, float] = {}
        self._looked_at: float | None = None

    def most_residents(self) -> int:
        """How many owners may have a process."""
        if self._placement.max_resident is not None:
            return self._placement.max_resident
        return max(_RESIDENTS, self._fitting() + 1) if self._placement.num_gpus else _RESIDENTS

    def most_tuned(self) -> int:
        """How many of them may have tuned: on GPUs no more than fit, for they hold a part of one until they end."""
        return max(1, self._fitting()) if self._placement.num_gpus else self.most_residents()

    def tunings(self) -> int:
        """How many clusters are tuned at a time: one a core, or up to two a GPU; one process is left to erasures."""
        size = int(sum(self._look().values()))
        if self._placement.num_gpus:
            size *= min(_TUNINGS_PER_GPU, self._placement.owners_per_gpu)
        return max(1, min(size, self.most_residents() - 1))

    def lightest(self, rows: Mapping[str, Sequence[int]], tuned: Mapping[str, int] | None) -> str | None:
        """The node with the fewest rows for its size that has room; None where there is no choice.

        Args:
            rows: rows of the clusters whose owners run there, by node id.
            tuned: how many of these owners have tuned; None where the one that comes will not.
        """
        sizes = self._look()
        if len(sizes) < 2:
            return None
        # Ray has an actor wait for a node that is full, however softly it is asked for.
        free = [node_id for node_id in sizes if tuned is None or self._has_room(sizes[node_id], tuned.get(node_id, 0))]
        return min(free, key=lambda node_id: (sum(rows.get(node_id, ())) / sizes[node_id], node_id), default=None)

    def _fitting(self) -> int:
        return int(sum(self._look().values())) * self._placement.owners_per_gpu

    def _has_room(self, size: float, owners: int) -> bool:
        return not self._placement.num_gpus or owners < int(size) * self._placement.owners_per_gpu

    def _look(self) -> dict[str, float]:
        """GPUs or cores by node id."""
        now = time.monotonic()
        if self._looked_at is None or now - self._looked_at > _LOOK_S:
            resource = "GPU" if self._placement.num_gpus else "CPU"
            self._sizes = {
                node["NodeID"]: node["Resources"][resource]
                for node in ray.nodes()
                if node["Alive"] and node["Resources"].get(resource, 0) > 0 and self._suits(node["Labels"])
            }
            self._looked_at = now
        return self._sizes

    def _suits(self, labels: Mapping[str, Any]) -> bool:
        return self._placement.accelerator in ("", labels.get(ACCELERATOR_LABEL))
