"""What does a store that answers slowly cost the service's answers?

Replicas of one store answer in turn, each behind a proxy that delays every request to moto's server by another time.
All run in one process and renew their lease throughout, so that the turns differ in the delay alone. Clients ask
without a pause, one image at a time, through the service's batches and fence, without HTTP. Printed are the ratio of
answers to those without delay in the same run, and how many requests were refused (503).

    python -m benchmarks.bench_slow_store --out /tmp/slow-store
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import time
from collections import Counter
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.lib.buckets import copy_to_bucket, make_digit_store
from benchmarks.lib.harness import machine
from benchmarks.lib.s3_proxy import s3_proxy
from benchmarks.lib.s3_server import CREDENTIALS, S3Server, s3_server
from benchmarks.lib.settings import DIGITS_CONFIG
from benchmarks.lib.synthetic_stores import DigitStore
from lmeraser.config import ServingConfig, load_config
from lmeraser.data import open_source
from lmeraser.errors import NotReadyError
from lmeraser.store import open_store
from serving.replica import Replica

DELAYS_MS = (0, 20, 80, 150, 300, 600)


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the copied store; replaced if it exists")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=3.0, help="of one turn at one delay")
    parser.add_argument("--lease", type=float, default=2.0, help="lease_s of the store; 2 is that of a bucket")
    arguments = parser.parse_args()
    shutil.rmtree(arguments.out, ignore_errors=True)
    os.environ.update(CREDENTIALS)
    private = open_source(load_config(DIGITS_CONFIG).private)
    image = next(iter(private.samples(private.labels))).image
    digits = make_digit_store(arguments.out, arguments.rows, arguments.lease)
    with s3_server() as server, ExitStack() as proxies:
        replicas = replicas_behind_proxies(server, digits, proxies)
        outcomes: dict[int, Counter[str]] = {delay_ms: Counter() for delay_ms in DELAYS_MS}
        for turn in range(arguments.turns):
            # Forwards and backwards, so that a trend over the run affects all delays alike.
            for delay_ms in DELAYS_MS if turn % 2 == 0 else DELAYS_MS[::-1]:
                outcomes[delay_ms] += load(replicas[delay_ms], image, arguments.clients, arguments.seconds)
        # Replicas stop looking for commits, and their last requests end before the proxies do.
        replicas.clear()
        time.sleep(2 * max(DELAYS_MS) / 1000)
    for delay_ms, counts in outcomes.items():
        figure = {
            "delay_ms": delay_ms,
            "lease_s": arguments.lease,
            "answers_a_second": round(counts["answered"] / (arguments.turns * arguments.seconds), 1),
            "of_those_without_delay": round(counts["answered"] / outcomes[0]["answered"], 3),
            "refused": counts["refused"],
            "date": machine()["date"],
        }
        print(json.dumps(figure), flush=True)


def replicas_behind_proxies(server: S3Server, digits: DigitStore, proxies: ExitStack) -> dict[int, Replica]:
    """One replica for each delay."""
    uri = copy_to_bucket(digits, server)
    replicas = {}
    for delay_ms in DELAYS_MS:
        proxy = proxies.enter_context(s3_proxy(server.endpoint))
        store = open_store(uri.replace(server.endpoint, proxy.endpoint))
        replicas[delay_ms] = Replica(store, digits.folder / "keys", ServingConfig())
        proxy.fault = partial(pause, delay_ms)
    return replicas


def pause(delay_ms: int, _method: str, _path: str) -> None:
    """No fault, but a delay before every answer."""
    time.sleep(delay_ms / 1000)


def load(replica: Replica, image: bytes, clients: int, seconds: float) -> Counter[str]:
    """How many requests of this number of clients were answered and refused."""
    outcomes: Counter[str] = Counter()

    async def client(deadline: float) -> None:
        while time.monotonic() < deadline:
            try:
                await replica.predict([image], "benchmark")
                outcomes["answered"] += 1
            except NotReadyError:
                outcomes["refused"] += 1

    async def run() -> None:
        deadline = time.monotonic() + seconds
        await asyncio.gather(*(client(deadline) for _ in range(clients)))

    asyncio.run(run())
    return outcomes


if __name__ == "__main__":
    main()
