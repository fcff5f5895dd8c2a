"""What every actor is started with: its store, the nodes and resources that it may use, and its Ray options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.remote.names import NAMESPACE

# The rest of a GPU is for a Serve replica, its successor during a rollout, and a worker of an ingest (decision 21).
OWNERS_GPU_SHARE = 0.7
OTHERS_GPU_SHARE = 0.1
ACCELERATOR_LABEL = "ray.io/accelerator-type"
DETACHED: Mapping[str, Any] = {
    "namespace": NAMESPACE,
    "lifetime": "detached",
    "get_if_exists": True,
    "max_restarts": -1,
}


@dataclass(frozen=True)
class StoreRef:
    """Where an actor finds its store and its keys. Ray persists it, so it holds neither rows nor secrets.

    Attributes:
        store_uri: of the store, or of a draft in a folder of it.
        keys_folder: the folder with the keys.
        live_uri: of the store that a draft is in; None otherwise.
    """

    store_uri: str
    keys_folder: str
    live_uri: str | None = None


@dataclass(frozen=True)
class Placement:
    """Where owners run. Ray persists it with the coordinator.

    Attributes:
        num_cpus: CPUs that Ray reserves for one owner, and for the coordinator.
        num_gpus: share of a GPU that Ray reserves for an owner that tunes; an owner that only writes rows gets none.
        accelerator: GPU type that their node must have; any when empty.
        max_resident: how many owners may have a process at the same time; None for 16, or for one more than fit on the
            GPUs if that is more.
        idle_s: seconds without a call after which an owner's process may be ended.
    """

    num_cpus: float
    num_gpus: float
    accelerator: str
    max_resident: int | None
    idle_s: float

    @property
    def owners_per_gpu(self) -> int:
        """How many owners share a GPU."""
        return max(1, int(OWNERS_GPU_SHARE / self.num_gpus + 1e-9))


def node_options(placement: Placement, node_id: str | None = None) -> Mapping[str, Any]:
    """Ray actor options: the kind of node that computes state, and optionally the preferred node."""
    options: dict[str, Any] = {}
    if placement.accelerator:
        options["label_selector"] = {ACCELERATOR_LABEL: placement.accelerator}
    if node_id is not None:
        # Soft: if the node is lost, Ray starts the actor on another one.
        options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node_id, soft=True)
    return options
