"""A Ray with two GPUs that do not exist: ``python logical_gpus.py STORE KEYS ROW …``.

Deletes the rows, and prints where the owners are before and after.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from typing import Any

import ray
from until import until

from actors.remote.names import NAMESPACE, owner_name
from actors.remote.placement import StoreRef
from cluster.cli import output
from cluster.cli.clusters import list_page
from cluster.runtime import coordinator_of
from lmeraser.config import OwnersConfig
from lmeraser.deletion import DeletionRequest
from lmeraser.state.manifest import load_manifest
from lmeraser.store import open_store

GPUS, SHARE = 2, 0.35
LONGEST_S = 120.0


def visible(_: object) -> str | None:
    """What CUDA would see in the owner's process."""
    import os

    return os.environ.get("CUDA_VISIBLE_DEVICES")


def listed(store: str) -> list[dict[str, Any]]:
    """The clusters as ``lmeraser clusters list`` prints them."""
    printed = io.StringIO()
    output._stdout = printed
    with contextlib.redirect_stdout(printed):
        list_page(store=store, as_json=True)
    clusters: list[dict[str, Any]] = json.loads(printed.getvalue())["clusters"]
    return clusters


def observe(store: str, keys: str, rows: list[str]) -> dict[str, Any]:
    """Where the owners run while they wait, and after the tunings."""
    report: dict[str, Any] = {"node_id": ray.get_runtime_context().get_node_id()}
    manifest = load_manifest(open_store(store))
    coordinator = coordinator_of(StoreRef(store, keys), manifest, OwnersConfig(gpus_per_owner=SHARE, idle_s=600.0))
    clusters = ray.get(coordinator.status.remote()).clusters
    until(lambda: len(ray.get(coordinator.owner_locations.remote())) == clusters or None, LONGEST_S)
    report["waiting"] = listed(store)
    report["free"] = ray.available_resources()["GPU"]
    deletion = ray.get(coordinator.delete.remote(DeletionRequest(tuple(rows))))
    until(lambda: ray.get(coordinator.deletion.remote(deletion.id)).status == "completed" or None, LONGEST_S)
    report["tunings"] = ray.get(coordinator.status.remote()).tunings
    report["tuned"] = listed(store)
    owners = {
        cluster["key"]: ray.get_actor(owner_name(manifest.store_id, store, cluster["key"]), namespace=NAMESPACE)
        for cluster in report["tuned"]
        if cluster["owner"] == "resident"
    }
    report["visible GPUs"] = {key: ray.get(owner.__ray_call__.remote(visible)) for key, owner in owners.items()}
    return report


if __name__ == "__main__":
    store, keys, *rows = sys.argv[1:]
    ray.init(num_cpus=2, num_gpus=GPUS, namespace=NAMESPACE, include_dashboard=False, log_to_driver=False)
    report = observe(store, keys, rows)
    assert sys.__stdout__ is not None
    sys.__stdout__.write(json.dumps(report))
    sys.__stdout__.flush()
    ray.shutdown()
