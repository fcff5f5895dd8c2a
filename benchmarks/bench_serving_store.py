"""What do a slow store, and commits that erase nothing, cost the service's answers?

``delays``: replicas of one store answer in turn. One reads the local disk; each of the others is behind a proxy that
delays every request to moto's server by another time. Printed are the answers relative to those of the local disk in
the same run, and how many requests were refused (503).

``commits``: one replica answers, in turns without commits and with them: tunings' commits, which bring other prompts of
some clusters and other heads, and erase nothing. They are copies, so only the replica and the disk work on them; a
coordinator's own work is left out. Printed are latencies relative to those of the quiet turns beside them.

``loads``: seconds to load such a commit's snapshot after the one before it, and without it.

All run in one process and renew their leases throughout; turns go forwards and backwards, so that a trend affects all
alike. Clients ask without a pause, one image at a time, through the service's batches and fence, without HTTP.

    python -m benchmarks.bench_serving_store --out /tmp/serving-store delays
    python -m benchmarks.bench_serving_store --out /tmp/serving-store commits
    python -m benchmarks.bench_serving_store --out /tmp/serving-store loads
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lib.background import meanwhile
from benchmarks.lib.buckets import copy_to_bucket, make_digit_store
from benchmarks.lib.harness import machine
from benchmarks.lib.quiet_commits import QuietCommits
from benchmarks.lib.s3_proxy import s3_proxy
from benchmarks.lib.s3_server import CREDENTIALS, S3Server, s3_server
from benchmarks.lib.settings import DIGITS_CONFIG
from benchmarks.lib.synthetic_stores import DigitStore
from lmeraser.config import ServingConfig, load_config
from lmeraser.data import open_source
from lmeraser.errors import NotReadyError
from lmeraser.state.keys import load_hash_key
from lmeraser.state.manifest import default_lease_s
from lmeraser.store import LocalStore, open_store
from serving.replica import Replica
from serving.snapshot import load_snapshot

DISK = "disk"
DELAYS_MS = (0, 20, 40, 80, 150)
BUCKET_LEASE_S = 2.0
# Small clusters, so that a store of few rows has many prompts.
MAX_CLUSTER_ROWS = 40


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["delays", "commits", "loads"])
    parser.add_argument("--out", type=Path, required=True, help="folder for the stores; replaced if it exists")
    parser.add_argument("--rows", type=int, help="by default 1000, and 6000 for commits and loads")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=1.0, help="of one turn")
    parser.add_argument("--every", type=float, default=0.5, help="seconds from one commit to the next")
    parser.add_argument("--changed", type=int, default=1, help="clusters that a commit gives another prompt")
    arguments = parser.parse_args()
    shutil.rmtree(arguments.out, ignore_errors=True)
    measure = {"delays": delays, "commits": commits, "loads": loads}[arguments.what]
    for figure in measure(arguments):
        print(json.dumps({**figure, **machine()}), flush=True)


@dataclass
class Answers:
    """What clients got in some turns.

    Attributes:
        seconds: latencies of the requests that were answered.
        refused: how many were not.
    """

    seconds: list[float] = field(default_factory=list)
    refused: int = 0


def load(replica: Replica, image: bytes, clients: int, seconds: float) -> Answers:
    """What this number of clients gets in this time."""
    answers = Answers()

    async def client(deadline: float) -> None:
        while (begun := time.monotonic()) < deadline:
            try:
                await replica.predict([image], "benchmark")
                answers.seconds.append(time.monotonic() - begun)
            except NotReadyError:
                answers.refused += 1

    async def run() -> None:
        deadline = time.monotonic() + seconds
        await asyncio.gather(*(client(deadline) for _ in range(clients)))

    asyncio.run(run())
    return answers


def first_image() -> bytes:
    """An image to ask for."""
    private = open_source(load_config(DIGITS_CONFIG).private)
    return next(iter(private.samples(private.labels))).image


def delays(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Answers by delay, relative to those from the local disk."""
    os.environ.update(CREDENTIALS)
    image = first_image()
    digits = make_digit_store(arguments.out, arguments.rows or 1000, BUCKET_LEASE_S)
    answered: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    # By turn, relative to the disk's turn beside it.
    ratios: dict[str, list[float]] = {}
    with s3_server() as server, ExitStack() as proxies:
        replicas = replicas_of(server, digits, proxies)
        for turn in range(arguments.turns):
            counts = {}
            for name in list(replicas)[:: 1 if turn % 2 == 0 else -1]:
                answers = load(replicas[name], image, arguments.clients, arguments.seconds)
                counts[name] = len(answers.seconds)
                refused[name] += answers.refused
            answered.update(counts)
            for name, count in counts.items():
                ratios.setdefault(name, []).append(count / counts[DISK])
        # Replicas stop looking for commits, and their last requests end before the proxies do.
        for replica in replicas.values():
            replica.close()
        time.sleep(2 * max(DELAYS_MS) / 1000)
    for name in replicas:
        yield {
            "store": name,
            "answers_a_second": round(answered[name] / (arguments.turns * arguments.seconds), 1),
            "of_the_disk": round(answered[name] / answered[DISK], 3),
            "median_of_turns": round(statistics.median(ratios[name]), 3),
            "refused": refused[name],
        }


def replicas_of(server: S3Server, digits: DigitStore, proxies: ExitStack) -> dict[str, Replica]:
    """A replica of the local disk, and one for each delay."""
    uri = copy_to_bucket(digits, server)
    replicas = {DISK: Replica(LocalStore(digits.folder / "store"), digits.folder / "keys", ServingConfig())}
    for delay_ms in DELAYS_MS:
        proxy = proxies.enter_context(s3_proxy(server.endpoint))
        store = open_store(uri.replace(server.endpoint, proxy.endpoint))
        replicas[f"{delay_ms} ms"] = Replica(store, digits.folder / "keys", ServingConfig())
        proxy.fault = partial(pause, delay_ms)
    return replicas


def pause(delay_ms: int, _method: str, _path: str) -> None:
    """No fault, but a delay before every answer."""
    time.sleep(delay_ms / 1000)


def commits(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Latencies while commits are appended, relative to the turns without."""
    image = first_image()
    digits, quiet_commits = store_of_many_clusters(arguments)
    replica = Replica(LocalStore(digits.folder / "store"), digits.folder / "keys", ServingConfig())
    pairs: list[tuple[Answers, Answers]] = []
    for turn in range(arguments.turns):
        pair = {}
        for with_commits in (turn % 2 == 0, turn % 2 == 1):
            if with_commits:
                with meanwhile(partial(quiet_commits.append_every, arguments.every)):
                    pair[True] = load(replica, image, arguments.clients, arguments.seconds)
            else:
                pair[False] = load(replica, image, arguments.clients, arguments.seconds)
        pairs.append((pair[False], pair[True]))
    replica.close()
    quiet_s, busy_s = (np.array([s for pair in pairs for s in pair[side].seconds]) for side in (0, 1))
    turns_p99 = [[float(np.quantile(answers.seconds, 0.99)) for answers in pair] for pair in pairs]
    yield {
        "clusters_with_prompts": quiet_commits.tuned,
        "changed_by_a_commit": arguments.changed,
        "commits": quiet_commits.appended,
        "answers": [len(quiet_s), len(busy_s)],
        "refused": [sum(pair[side].refused for pair in pairs) for side in (0, 1)],
        "p50_ms": [round(float(np.quantile(seconds, 0.5)) * 1000, 1) for seconds in (quiet_s, busy_s)],
        "p99_ms": [round(float(np.quantile(seconds, 0.99)) * 1000, 1) for seconds in (quiet_s, busy_s)],
        "longest_ms": [round(float(seconds.max()) * 1000, 1) for seconds in (quiet_s, busy_s)],
        "p99_of_quiet": round(float(np.quantile(busy_s, 0.99) / np.quantile(quiet_s, 0.99)), 3),
        "p99_of_quiet_median_of_turns": round(statistics.median(busy / quiet for quiet, busy in turns_p99), 3),
    }


def loads(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Seconds to load a snapshot after another one, and alone."""
    digits, quiet_commits = store_of_many_clusters(arguments)
    store, pipeline = LocalStore(digits.folder / "store"), digits.pipeline
    hash_key = load_hash_key(digits.folder / "keys")
    snapshot = load_snapshot(store, pipeline, quiet_commits.append(), hash_key)
    seconds: dict[str, list[float]] = {"following": [], "alone": []}
    for _ in range(arguments.turns):
        commit = quiet_commits.append()
        begun = time.perf_counter()
        load_snapshot(store, pipeline, commit, hash_key)
        between = time.perf_counter()
        snapshot = load_snapshot(store, pipeline, commit, hash_key, snapshot)
        seconds["alone"].append(between - begun)
        seconds["following"].append(time.perf_counter() - between)
    yield {
        "clusters_with_prompts": quiet_commits.tuned,
        "changed_by_a_commit": arguments.changed,
        **{f"{name}_ms": round(statistics.median(each) * 1000, 2) for name, each in seconds.items()},
    }


def store_of_many_clusters(arguments: argparse.Namespace) -> tuple[DigitStore, QuietCommits]:
    """A store with many prompts, with the lease of a folder, and what appends commits to it."""
    lease_s = default_lease_s(LocalStore(arguments.out))
    digits = make_digit_store(arguments.out, arguments.rows or 6000, lease_s, MAX_CLUSTER_ROWS)
    return digits, QuietCommits(LocalStore(digits.folder / "store"), arguments.changed)


if __name__ == "__main__":
    main()
