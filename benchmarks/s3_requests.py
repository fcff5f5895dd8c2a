"""How many requests does S3 get: for a deletion, for a start, and from a replica that waits or answers?

Requests are counted in the log of moto's server on loopback, so they are those that a bill would list; its seconds are
not those of S3 and are not given. Owners live in the coordinator's process (no Ray), and a stand-in tunes. Prices are
those of S3 Standard in us-east-1 in 2025: $5 per million of PUT, POST and LIST, $0.40 of GET and HEAD, DELETE free.

    python benchmarks/s3_requests.py --out /tmp/s3-requests
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from stores import Prepared, prepared, rows_of, samples, stand_in

# The script serving.py beside this one would hide the package of the same name.
sys.path.remove(str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parent.parent / "tests" / "support"))

from s3_server import CREDENTIALS, S3Server, s3_server

from actors.coordinator import Coordinator
from actors.owners import InProcessOwners
from cluster.demo import CONFIG
from lmeraser.config import ServingConfig, load_config
from lmeraser.data import open_source
from lmeraser.deletion import DeletionRequest
from lmeraser.learning.backbone import create_model
from lmeraser.state.keys import init_keys, load_hash_key, load_signing_key
from lmeraser.state.manifest import load_manifest
from lmeraser.state.pipeline_loading import load_pipeline
from lmeraser.state.public_artifacts import create_store
from lmeraser.state.public_fit import build_public
from lmeraser.store import LocalStore, Store, open_store
from serving.replica import Replica

DOLLARS_PER_MILLION = {"PUT": 5.0, "POST": 5.0, "LIST": 5.0, "GET": 0.4, "HEAD": 0.4, "DELETE": 0.0}
# That of a store which is made in a bucket.
_LEASE_S = 2.0
_LOGGED_WITHIN_S = 0.5


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the store that is copied; made anew")
    parser.add_argument("--rows", type=int, default=1000)
    arguments = parser.parse_args()
    shutil.rmtree(arguments.out, ignore_errors=True)
    os.environ.update(CREDENTIALS)
    store = built(arguments.out, arguments.rows, _LEASE_S)
    with s3_server() as server:
        for figure in figures(server, store, arguments.rows):
            print(json.dumps({**figure, "date": datetime.now().date().isoformat()}), flush=True)


def built(out: Path, rows: int, lease_s: float) -> Prepared:
    """A store of digits on the local disk, in the demo's configuration and with this lease."""
    config = load_config(CONFIG)
    state_config = config.state(open_source(config.private).labels)
    torch.manual_seed(0)
    public = open_source(config.public)
    artifacts = build_public(
        state_config, create_model(state_config.backbone).state_dict(), public.samples(public.labels)
    )
    create_store(LocalStore(out / "store"), state_config, artifacts, lease_s)
    init_keys(out / "keys")
    return prepared(out, rows_of(Prepared(out, ()).pipeline, samples(config, rows)))


def figures(server: S3Server, built: Prepared, rows: int) -> Iterator[dict[str, Any]]:
    """All figures, on a copy of the store in a bucket."""
    local = LocalStore(built.folder / "store")
    store = open_store(server.uri(server.bucket(versioned=True)))
    for name in local.names():
        store.put(name, local.get(name))
    coordinators: list[Coordinator] = []
    started = counted(server, lambda: coordinators.append(coordinator_of(store, built)))
    coordinator = coordinators[0]
    shown = {"rows": rows, "clusters": coordinator.status().clusters}
    yield {"what": "a coordinator's check of the bucket and start", **shown, **told(started)}
    waiting = counted(server, lambda: steps(coordinator, 5.0))
    yield {"what": "a coordinator that waits, for a second", **told(waiting, 5.0)}
    for ids in (1, 10):
        chosen = [built.sample_ids[place] for place in range(0, rows, rows // ids)][:ids]
        erased = counted(
            server, lambda chosen=chosen: coordinator.delete(DeletionRequest(tuple(chosen))) and coordinator.step()
        )
        completed = counted(server, lambda: until_idle(coordinator))
        clusters = len(coordinator.deletions()[-1].clusters)
        yield {"what": "accepted to erased", "ids": ids, "clusters touched": clusters, **told(erased)}
        yield {"what": "erased to completed", "ids": ids, "clusters touched": clusters, **told(completed)}
    replicas: list[Replica] = []
    begun = counted(server, lambda: replicas.append(Replica(store, built.folder / "keys", ServingConfig())))
    yield {"what": "a replica's start, and half a second after it", **told(begun)}
    idle = counted(server, lambda: time.sleep(20))
    yield {"what": "a replica that nobody asks, for a second", **told(idle, 20 + _LOGGED_WITHIN_S)}
    busy = counted(server, lambda: asked(replicas[0], 20))
    yield {"what": "a replica that answers without a pause, for a second", **told(busy, 20 + _LOGGED_WITHIN_S)}


def coordinator_of(store: Store, built: Prepared) -> Coordinator:
    """A coordinator that has checked the bucket and taken over."""
    store.check()
    manifest, keys = load_manifest(store), built.folder / "keys"
    pipeline = stand_in(load_pipeline(store, manifest))
    owners = InProcessOwners(store, manifest, load_hash_key(keys), lambda: pipeline)
    return Coordinator(store, manifest, load_hash_key(keys), load_signing_key(keys), owners, lease_s=0.0)


def steps(coordinator: Coordinator, seconds: float) -> None:
    """Have it look for work for so long."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        coordinator.step()
        time.sleep(0.02)


def until_idle(coordinator: Coordinator) -> None:
    """Have it do all of its work."""
    while not coordinator.idle():
        coordinator.step()


def asked(replica: Replica, seconds: float) -> None:
    """Ask for a snapshot as often as batches could."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        replica.snapshot()
        time.sleep(0.001)


def counted(server: S3Server, work: Callable[[], object]) -> Counter[str]:
    """The requests that come while something is done."""
    time.sleep(_LOGGED_WITHIN_S)
    start = len(server.requests)
    work()
    time.sleep(_LOGGED_WITHIN_S)
    return server.counted(start)


def told(requests: Counter[str], seconds: float = 1.0) -> dict[str, Any]:
    """Requests by kind, and what a million times as many cost."""
    dollars = sum(count * DOLLARS_PER_MILLION[kind] for kind, count in requests.items())
    each = {kind: round(count / seconds, 2) for kind, count in sorted(requests.items())}
    return {"requests": round(sum(requests.values()) / seconds, 2), **each, "dollars for a million": dollars / seconds}


if __name__ == "__main__":
    main()
