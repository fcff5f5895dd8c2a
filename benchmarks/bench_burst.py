"""How many deletions are accepted in a second, and when are those of a burst completed?

Threads request deletions of one row each, one after the other without a pause, from a coordinator in this process; no
row is of a coreset, so nothing is tuned. Then the coordinator works until all are completed. This is done on the local
disk, and behind a proxy that delays every request to moto's server.

    python -m benchmarks.bench_burst --out /tmp/burst
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from actors.coordinator import Coordinator
from benchmarks.bench_s3_requests import start_coordinator, step_until_idle
from benchmarks.bench_serving_store import pause
from benchmarks.lib.buckets import copy_to_bucket, make_digit_store
from benchmarks.lib.harness import machine
from benchmarks.lib.s3_proxy import s3_proxy
from benchmarks.lib.s3_server import CREDENTIALS, s3_server
from benchmarks.lib.synthetic_stores import DigitStore, coreset_ids
from lmeraser.deletion import DeletionRequest
from lmeraser.state.layout import LOG
from lmeraser.store import LocalStore, Store, open_store

_LEASE_S = 2.0


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the stores; replaced if it exists")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=64)
    parser.add_argument("--delay-ms", type=int, default=20)
    arguments = parser.parse_args()
    shutil.rmtree(arguments.out, ignore_errors=True)
    os.environ.update(CREDENTIALS)
    digits = make_digit_store(arguments.out, arguments.rows, _LEASE_S)
    for figure in figures(digits, arguments):
        print(json.dumps({**figure, **machine()}), flush=True)


def figures(digits: DigitStore, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The burst on the disk and in the bucket, each on a copy of the store."""
    sample_ids = sorted(set(digits.sample_ids).difference(coreset_ids(digits)))[: arguments.requests]
    asked = {"rows": arguments.rows, "requests": len(sample_ids), "threads": arguments.threads}
    with s3_server() as server, s3_proxy(server.endpoint) as proxy:
        bucket = open_store(copy_to_bucket(digits, server).replace(server.endpoint, proxy.endpoint))
        proxy.fault = partial(pause, arguments.delay_ms)
        yield {"store": f"{arguments.delay_ms} ms a request", **asked, **burst(bucket, digits, sample_ids, arguments)}
    copy = digits.folder / "copy"
    shutil.copytree(digits.folder / "store", copy)
    yield {"store": "disk", **asked, **burst(LocalStore(copy), digits, sample_ids, arguments)}


def burst(store: Store, digits: DigitStore, sample_ids: Sequence[str], arguments: argparse.Namespace) -> dict[str, Any]:
    """Request a deletion of each row at once, and carry all of them out."""
    coordinator = start_coordinator(store, digits)
    records = len(store.names(LOG))
    accepted_s = _accept(coordinator, sample_ids, arguments.threads)
    accepted = len(store.names(LOG))
    begun_s = time.monotonic()
    step_until_idle(coordinator)
    return {
        "accepted_a_second": round(len(sample_ids) / accepted_s, 1),
        "records_of_requests": accepted - records,
        "seconds_until_all_are_completed": round(time.monotonic() - begun_s, 2),
        "further_records": len(store.names(LOG)) - accepted,
    }


def _accept(coordinator: Coordinator, sample_ids: Sequence[str], threads: int) -> float:
    """Seconds until all are accepted."""
    begun_s = time.monotonic()
    with ThreadPoolExecutor(threads) as clients:
        list(clients.map(lambda name: coordinator.delete(DeletionRequest((name,))), sample_ids))
    return time.monotonic() - begun_s


if __name__ == "__main__":
    main()
