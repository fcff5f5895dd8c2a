"""A separate Ray that accepts a deletion and then continues: ``python one_cluster.py STORE KEYS [SAMPLE_ID]``.

Prints the deletion's id as soon as it is accepted, or its term where it is asked for none; it is meant to be killed.
"""

from __future__ import annotations

import sys
import time

import ray

from actors.remote.placement import StoreRef
from cluster.runtime import connect, coordinator_of
from lmeraser.deletion import DeletionRequest
from lmeraser.state.manifest import load_manifest
from lmeraser.store import open_store

if __name__ == "__main__":
    store, keys, *sample_ids = sys.argv[1:]
    connect()
    coordinator = coordinator_of(StoreRef(store, keys), load_manifest(open_store(store)))
    if sample_ids:
        print(ray.get(coordinator.delete.remote(DeletionRequest(tuple(sample_ids)))).id, flush=True)
    else:
        print(ray.get(coordinator.status.remote()).term, flush=True)
    time.sleep(600)
