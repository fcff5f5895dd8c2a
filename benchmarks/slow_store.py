"""What does a store that answers slowly cost the service's answers?

Replicas of one store answer in turn, each behind a proxy that delays every request to moto's server by another time.
All run in one process and renew their lease all the while, so that what differs between the turns is the delay alone.
Clients ask without a pause, one image at a time, through the service's batches and fence, without HTTP. Given are the
ratio of answers to those without delay in the same run, and how many requests were refused (503).

    python benchmarks/slow_store.py --out /tmp/slow-store
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
from datetime import datetime
from pathlib import Path

# First, because it puts the tests' support on the path, and takes the script serving.py beside this one off it.
from s3_requests import built  # isort: split

from s3_proxy import s3_proxy
from s3_server import CREDENTIALS, S3Server, s3_server
from stores import Prepared

from cluster.demo import CONFIG
from lmeraser.config import ServingConfig, load_config
from lmeraser.data import open_source
from lmeraser.errors import NotReadyError
from lmeraser.store import LocalStore, open_store
from serving.replica import Replica

DELAYS_MS = (0, 20, 80, 150, 300, 600)


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the store that is copied; made anew")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=3.0, help="of one turn at one delay")
    parser.add_argument("--lease", type=float, default=2.0, help="lease_s of the store; 2 is that of a bucket")
    arguments = parser.parse_args()
    shutil.rmtree(arguments.out, ignore_errors=True)
    os.environ.update(CREDENTIALS)
    private = open_source(load_config(CONFIG).private)
    image = next(iter(private.samples(private.labels))).image
    store = built(arguments.out, arguments.rows, arguments.lease)
    with s3_server() as server, ExitStack() as opened:
        replicas = behind_proxies(server, store, opened)
        answered: dict[int, Counter[str]] = {delay_ms: Counter() for delay_ms in DELAYS_MS}
        for turn in range(arguments.turns):
            # Forwards and backwards, so that what grows or falls over the run falls on all alike.
            for delay_ms in DELAYS_MS if turn % 2 == 0 else DELAYS_MS[::-1]:
                answered[delay_ms] += asked(replicas[delay_ms], image, arguments.clients, arguments.seconds)
        # They look no more, and those looks that are on their way end before the proxies do.
        replicas.clear()
        time.sleep(2 * max(DELAYS_MS) / 1000)
    for delay_ms, found in answered.items():
        figure = {
            "delay_ms": delay_ms,
            "lease_s": arguments.lease,
            "answers_a_second": round(found["answered"] / (arguments.turns * arguments.seconds), 1),
            "of_those_without_delay": round(found["answered"] / answered[0]["answered"], 3),
            "refused": found["refused"],
            "date": datetime.now().date().isoformat(),
        }
        print(json.dumps(figure), flush=True)


def behind_proxies(server: S3Server, built: Prepared, opened: ExitStack) -> dict[int, Replica]:
    """One replica for each delay."""
    local, uri = LocalStore(built.folder / "store"), server.uri(server.bucket())
    for name in local.names():
        open_store(uri).put(name, local.get(name))
    replicas = {}
    for delay_ms in DELAYS_MS:
        proxy = opened.enter_context(s3_proxy(server.endpoint))
        store = open_store(uri.replace(server.endpoint, proxy.endpoint))
        replicas[delay_ms] = Replica(store, built.folder / "keys", ServingConfig())
        proxy.fault = lambda _pipeline, _path, delay_ms=delay_ms: time.sleep(delay_ms / 1000)  # type: ignore[misc]
    return replicas


def asked(replica: Replica, image: bytes, clients: int, seconds: float) -> Counter[str]:
    """How many requests of so many clients were answered and refused."""
    found: Counter[str] = Counter()

    async def ask(until: float) -> None:
        while time.monotonic() < until:
            try:
                await replica.predict([image], "benchmark")
                found["answered"] += 1
            except NotReadyError:
                found["refused"] += 1

    async def run() -> None:
        until = time.monotonic() + seconds
        await asyncio.gather(*(ask(until) for _ in range(clients)))

    asyncio.run(run())
    return found


if __name__ == "__main__":
    main()
