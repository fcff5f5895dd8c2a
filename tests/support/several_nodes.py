"""A Ray of two nodes on this machine, one of which is killed.

``python several_nodes.py STORE KEYS FOLDER IMAGES REPORT``

Adds the images, serves, deletes, and kills the second node while an owner on it tunes. FOLDER is a local store, which
must be refused. The observations go to the file REPORT, as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster
from until import until

from actors.remote.names import NAMESPACE
from actors.remote.placement import StoreRef
from cluster.authentication import authenticate
from cluster.jobs import ingest
from cluster.runtime import coordinator_of, free_port
from cluster.service import start_service, stop_service
from lmeraser.client.client import Client
from lmeraser.config import ServingConfig, SourceConfig
from lmeraser.errors import ServiceUnavailableError, StoreError
from lmeraser.state.manifest import load_manifest
from lmeraser.store import open_store

LONGEST_S = 150.0
# A node counts as dead after 3 s of silence, where Ray by itself takes 15.
HEALTH = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 2,
}


def deletes_and_loses_a_node(second: Any, report: dict[str, Any], arguments: list[str]) -> None:
    """Run everything on the running nodes."""
    store_uri, keys, folder, images = arguments
    site = StoreRef(store_uri, keys)
    store = open_store(store_uri)
    manifest = load_manifest(store)
    try:
        coordinator_of(StoreRef(folder, keys), load_manifest(open_store(folder)))
    except StoreError as error:
        report["refused"] = str(error)
    coordinator = coordinator_of(site, manifest)
    url = start_service(store, Path(keys), ServingConfig(), "127.0.0.1", free_port())
    with Client(url) as client:
        source = SourceConfig("image_folder", images)
        job = ingest(coordinator, site, manifest, source, skip_bad=False, force=False, report=lambda *_: None)
        report["added"] = job.outcome.added
        picture = next(Path(images).rglob("*.png")).read_bytes()
        client.predict(picture)

        def location_of_tuning() -> Any | None:
            status, locations = ray.get([coordinator.status.remote(), coordinator.owner_locations.remote()])
            report["nodes"] = sorted({each.node_id for each in locations.values()} | set(report.get("nodes", ())))
            running = [locations[key] for key in status.running if key in locations]
            return next((location for location in running if location.node_id == second.node_id), None)

        location = until(location_of_tuning, LONGEST_S)
        deletion = client.delete(sample_ids=report["deleted"])
        kill(second)
        killed = time.monotonic()
        report["killed_pid"] = location.pid

        def completed() -> bool | None:
            try:
                return client.deletion(deletion.id).status == "completed" or None
            except ServiceUnavailableError:
                return None

        until(completed, LONGEST_S)
        until(lambda: ray.get(coordinator.status.remote()).idle or None, LONGEST_S)
        report["seconds"] = round(time.monotonic() - killed, 1)
        report["alive"] = sum(node["Alive"] for node in ray.nodes())
        # A replica loads a specialist's commit in the background.
        newest = ray.get(coordinator.status.remote()).commit
        report["commit"] = until(
            lambda: commit if (commit := client.predict(picture).commit) == newest else None, LONGEST_S
        )
    stop_service()


def kill(node: Any) -> None:
    """SIGKILL its raylet; a zombie would look alive to its workers, which end with it."""
    raylet = node.all_processes["raylet"][0].process
    os.kill(raylet.pid, signal.SIGKILL)
    raylet.wait()


if __name__ == "__main__":
    report: dict[str, Any] = {"deleted": ["s3", "s7", "s11"]}
    authenticate()
    # Short, because the paths of sockets must be.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as temporary:
        head = {"num_cpus": 1, "include_dashboard": False, "_system_config": HEALTH, "temp_dir": temporary}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        second = cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, namespace=NAMESPACE, log_to_driver=False, logging_level="ERROR")
        try:
            deletes_and_loses_a_node(second, report, sys.argv[1:5])
        finally:
            ray.shutdown()
            cluster.shutdown()
    Path(sys.argv[5]).write_text(json.dumps(report))
