"""What every actor is started with: its store, the nodes and resources that it may use, and its Ray options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.remote.names import NAMESPACE
from lmeraser.state.fingerprint import label_of

# The rest of a GPU is for a Serve replica, its successor during a rollout, and a worker of an ingest (decision 21).
OWNERS_GPU_SHARE = 0.7
OTHERS_GPU_SHARE = 0.1
ACCELERATOR_LABEL = "ray.io/accelerator-type"
# What `lmeraser fingerprint` prints for a node to be started with.
NUMERICS_LABEL = "lmeraser.io/numerics"
GPU_NUMERICS_LABEL = "lmeraser.io/gpu-numerics"
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
        numerics: from :func:`numerics_selector`.
    """

    num_cpus: float
    num_gpus: float
    accelerator: str
    max_resident: int | None
    idle_s: float
    numerics: Mapping[str, str] = field(default_factory=dict)

    @property
    def labels(self) -> dict[str, str]:
        """Labels that the node of an owner must have."""
        return {**({ACCELERATOR_LABEL: self.accelerator} if self.accelerator else {}), **self.numerics}

    @property
    def owners_per_gpu(self) -> int:
        """How many owners share a GPU."""
        return max(1, int(OWNERS_GPU_SHARE / self.num_gpus + 1e-9))


def numerics_selector(fingerprint: Mapping[str, str]) -> dict[str, str]:
    """The label of the nodes that compute under this fingerprint; empty if no node is labelled with it.

    Then anything runs anywhere: fingerprints are still compared where state is computed.
    """
    if not ray.is_initialized():
        return {}
    key = GPU_NUMERICS_LABEL if fingerprint["accelerator"] else NUMERICS_LABEL
    value = label_of(fingerprint)
    labelled = any(node["Alive"] and node["Labels"].get(key) == value for node in ray.nodes())
    return {key: value} if labelled else {}


def node_options(placement: Placement, node_id: str | None = None) -> Mapping[str, Any]:
    """Ray actor options: the kind of node that computes state, and optionally the preferred node."""
    options: dict[str, Any] = {"label_selector": placement.labels} if placement.labels else {}
    if node_id is not None:
        # Soft: if the node is lost, Ray starts the actor on another one.
        options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node_id, soft=True)
    return options
