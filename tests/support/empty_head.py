"""A Ray whose head offers no processor, and one other node: ``python empty_head.py STORE KEYS``.

Prints on which nodes coordinators and owners run; several coordinators, because Ray may place an actor at random.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster
from until import until

from actors.remote.coordinator_actor import open_coordinator
from actors.remote.names import NAMESPACE
from actors.remote.owner_resources import owner_placement
from actors.remote.placement import StoreRef
from actors.remote.process import ProcessLocation
from cluster.authentication import authenticate
from lmeraser.config import OwnersConfig
from lmeraser.state.manifest import load_manifest
from lmeraser.store import open_store

COORDINATORS = 4


def node_ids(store: str, keys: str, folder: str) -> list[str]:
    """Nodes of the coordinators and of their owners."""
    nodes: list[str] = []
    for number in range(COORDINATORS):
        copy = shutil.copytree(store, Path(folder) / f"store-{number}")
        opened = open_store(str(copy))
        manifest = load_manifest(opened)
        placement = owner_placement(OwnersConfig(max_resident_owners=1), opened, manifest)
        coordinator = open_coordinator(StoreRef(str(copy), keys), manifest.store_id, placement)
        nodes.append(ray.get(coordinator.location.remote()).node_id)
        nodes += until(partial(nodes_of_owners, coordinator), 120)
        ray.kill(coordinator)
    return nodes


def nodes_of_owners(coordinator: Any) -> list[str] | None:
    """Nodes of a coordinator's owners; None until some run."""
    locations: dict[str, ProcessLocation] = ray.get(coordinator.owner_locations.remote())
    return [location.node_id for location in locations.values()] or None


if __name__ == "__main__":
    authenticate()
    # Short, because the paths of sockets must be.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as temporary:
        head = {"num_cpus": 0, "include_dashboard": False, "temp_dir": temporary}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        worker = cluster.add_node(num_cpus=2)
        ray.init(address=cluster.address, namespace=NAMESPACE, log_to_driver=False, logging_level="ERROR")
        try:
            report = {"node_ids": node_ids(sys.argv[1], sys.argv[2], temporary), "worker": worker.node_id}
        finally:
            ray.shutdown()
            cluster.shutdown()
    print(json.dumps(report))
