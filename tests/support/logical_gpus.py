"""A Ray with four GPUs that are not there: ``python logical_gpus.py STORE KEYS``; prints where the owners are."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time

import ray

from actors.names import owner_name
from actors.owner_process import NAMESPACE, Site
from cluster.cli import output
from cluster.cli.clusters import list_all
from cluster.runtime import registrar_of
from lmeraser.manifest import load_manifest
from lmeraser.owners_config import OwnersConfig
from lmeraser.store import open_store

GPUS, SHARE, FIT = 4, 0.35, 8


def visible(_: object) -> list[str]:
    """What CUDA would see in the owner's process."""
    import os

    return os.environ["CUDA_VISIBLE_DEVICES"].split(",")


if __name__ == "__main__":
    store, keys = sys.argv[1:]
    ray.init(num_cpus=2, num_gpus=GPUS, namespace=NAMESPACE, include_dashboard=False, log_to_driver=False)
    manifest = load_manifest(open_store(store))
    registrar = registrar_of(Site(store, keys), manifest, OwnersConfig(gpus_per_owner=SHARE))
    clusters = ray.get(registrar.status.remote())["clusters"]
    until = time.monotonic() + 120
    while len(ray.get(registrar.owner_places.remote())) < min(FIT, clusters) and time.monotonic() < until:
        time.sleep(0.2)
    time.sleep(1)
    printed = io.StringIO()
    output._stdout = printed
    with contextlib.redirect_stdout(printed):
        list_all(store, None, as_json=True)
    told = json.loads(printed.getvalue())
    owners = {
        one["key"]: ray.get_actor(owner_name(manifest.store_id, store, one["key"]), namespace=NAMESPACE)
        for one in told["clusters"]
        if one["owner"] == "resident"
    }
    told["seen"] = {key: ray.get(owner.__ray_call__.remote(visible)) for key, owner in owners.items()}
    told["node_id"] = ray.get_runtime_context().get_node_id()
    sys.__stdout__.write(json.dumps(told))
    sys.__stdout__.flush()
    ray.shutdown()
