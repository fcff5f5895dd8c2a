"""How many requests does S3 get: for a deletion, for a start, and from a replica that waits or answers?

Requests are counted in the log of moto's server on loopback, so they are those that a bill would list; its seconds are
not those of S3 and are not given. Owners run in the coordinator's process (no Ray), and a stand-in tunes. Prices are
those of S3 Standard in us-east-1 in 2025: $5 per million PUT, POST and LIST, $0.40 per million GET and HEAD, DELETE
free. Writes ``bucket.json``.

    python -m benchmarks.bench_s3_requests --out /tmp/s3-requests
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from actors.coordinator import Coordinator
from actors.owners import InProcessOwners
from benchmarks.lib.buckets import copy_to_bucket, make_digit_store
from benchmarks.lib.harness import machine
from benchmarks.lib.plotting import DOCS
from benchmarks.lib.s3_server import CREDENTIALS, S3Server, s3_server
from benchmarks.lib.synthetic_stores import DigitStore, coreset_ids, stand_in
from lmeraser.config import ServingConfig
from lmeraser.deletion import DeletionRequest
from lmeraser.state.keys import load_hash_key, load_signing_key
from lmeraser.state.manifest import load_manifest
from lmeraser.state.pipeline_loading import load_pipeline
from lmeraser.store import Store, open_store
from serving.replica import Replica

DOLLARS_PER_MILLION = {"PUT": 5.0, "POST": 5.0, "LIST": 5.0, "GET": 0.4, "HEAD": 0.4, "DELETE": 0.0}
# That of a store which is made in a bucket.
_LEASE_S = 2.0
# The server's log is complete after this time.
_LOG_DELAY_S = 0.5
_WAITING_S, _ANSWERING_S = 5.0, 20.0
_SEVERAL = 10


def main() -> None:
    """Print every figure, and write them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the copied store; replaced if it exists")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of bucket.json")
    parser.add_argument("--rows", type=int, default=1000)
    arguments = parser.parse_args()
    shutil.rmtree(arguments.out, ignore_errors=True)
    os.environ.update(CREDENTIALS)
    digits = make_digit_store(arguments.out, arguments.rows, _LEASE_S)
    counted_figures = []
    with s3_server() as server:
        for figure in figures(server, digits, arguments.rows):
            counted_figures.append({**figure, "date": machine()["date"]})
            print(json.dumps(counted_figures[-1]), flush=True)
    (arguments.docs / "bucket.json").write_text(json.dumps(counted_figures, indent=1) + "\n")


def figures(server: S3Server, digits: DigitStore, rows: int) -> Iterator[dict[str, Any]]:
    """All figures, on a copy of the store in a bucket."""
    store = open_store(copy_to_bucket(digits, server, versioned=True))
    coordinators: list[Coordinator] = []
    starting = counted(server, lambda: coordinators.append(start_coordinator(store, digits)))
    coordinator = coordinators[0]
    size = {"rows": rows, "clusters": coordinator.status().clusters}
    yield {"what": "a coordinator's check of the bucket and start", **size, **priced(starting)}
    waiting = counted(server, lambda: step_for(coordinator, _WAITING_S))
    yield {"what": "a coordinator that waits, for a second", **priced(waiting, _WAITING_S)}
    coreset = coreset_ids(digits)
    outside = sorted(set(digits.sample_ids).difference(coreset))
    for kind, sample_ids in {
        "1 row outside the coresets": outside[:1],
        "10 rows outside the coresets": outside[1 : 1 + _SEVERAL],
        "1 coreset row": coreset[:1],
        "10 coreset rows": coreset[1 : 1 + _SEVERAL],
    }.items():
        erasing = counted(server, partial(erase, coordinator, sample_ids))
        completing = counted(server, lambda: step_until_idle(coordinator))
        touched = {"deleted": kind, "clusters touched": len(coordinator.deletions(1).items[0].clusters)}
        yield {"what": "accepted to erased", **touched, **priced(erasing)}
        yield {"what": "erased to completed", **touched, **priced(completing)}
    replicas: list[Replica] = []
    opening = counted(server, lambda: replicas.append(Replica(store, digits.folder / "keys", ServingConfig())))
    yield {"what": "a replica's start, and half a second after it", **priced(opening)}
    idle = counted(server, lambda: time.sleep(_ANSWERING_S))
    yield {"what": "a replica that nobody asks, for a second", **priced(idle, _ANSWERING_S + _LOG_DELAY_S)}
    busy = counted(server, lambda: read_snapshots(replicas[0], _ANSWERING_S))
    yield {"what": "a replica that answers without a pause, for a second", **priced(busy, _ANSWERING_S + _LOG_DELAY_S)}


def start_coordinator(store: Store, digits: DigitStore) -> Coordinator:
    """A coordinator that has checked the bucket and taken over."""
    store.check()
    manifest, keys = load_manifest(store), digits.folder / "keys"
    pipeline = stand_in(load_pipeline(store, manifest))
    owners = InProcessOwners(store, manifest, load_hash_key(keys), lambda: pipeline)
    return Coordinator(store, manifest, load_hash_key(keys), load_signing_key(keys), owners, lease_s=0.0)


def erase(coordinator: Coordinator, sample_ids: Sequence[str]) -> None:
    """Delete rows; the first step erases them."""
    coordinator.delete(DeletionRequest(tuple(sample_ids)))
    coordinator.step()


def step_for(coordinator: Coordinator, seconds: float) -> None:
    """Have it look for work for so long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        coordinator.step()
        time.sleep(0.02)


def step_until_idle(coordinator: Coordinator) -> None:
    """Have it do all of its work."""
    while not coordinator.idle():
        coordinator.step()


def read_snapshots(replica: Replica, seconds: float) -> None:
    """Ask for a snapshot as often as batches could."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        replica.snapshot()
        time.sleep(0.001)


def counted(server: S3Server, work: Callable[[], object]) -> Counter[str]:
    """The requests that the server gets during the work."""
    time.sleep(_LOG_DELAY_S)
    start = len(server.requests)
    work()
    time.sleep(_LOG_DELAY_S)
    return server.counted(start)


def priced(requests: Counter[str], seconds: float = 1.0) -> dict[str, Any]:
    """Requests by kind, and what a million times as many cost."""
    dollars = sum(count * DOLLARS_PER_MILLION[kind] for kind, count in requests.items())
    by_kind = {kind: round(count / seconds, 2) for kind, count in sorted(requests.items())}
    total = round(sum(requests.values()) / seconds, 2)
    return {"requests": total, **by_kind, "dollars for a million": dollars / seconds}


if __name__ == "__main__":
    main()
