"""Kill parts of a service that answers predictions at a steady rate, and count what its clients notice.

Ray has a head without CPUs, where Serve's controller runs, and two more nodes, each with room for one replica, all on
this machine. The victims, in this order: a replica, a proxy of Serve, its controller, the coordinator, and the raylet
of a node with a replica. Clients are the project's own: they retry transient errors. Ray notices a dead node after its
default time.

    python tests/faults/outages.py --replicas 1 2 --out docs/evidence/outages.md

Failed: predictions that failed after all retries. Longest gap: the longest time without any answer. Longest call: the
longest time that one caller waited, retries included.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import ray
from processes import REPLICA, descendants, kill, named
from ray.cluster_utils import Cluster
from small_system import build_system, picture
from until import until

from actors.remote.coordinator_actor import open_coordinator
from actors.remote.names import NAMESPACE
from actors.remote.owner_resources import owner_placement
from actors.remote.placement import StoreRef
from cluster.authentication import authenticate
from cluster.runtime import free_port
from cluster.service import start_service, stop_service
from lmeraser.client.client import Client
from lmeraser.config import OwnersConfig, ServingConfig
from lmeraser.errors import ServiceError

VICTIMS = {
    "replica": REPLICA,
    "Serve proxy": "ray::ProxyActor",
    "Serve controller": "ray::ServeController",
    "coordinator": "ray::CoordinatorActor",
}
RAYLET = "raylet of a node with a replica"
ROWS = 24
CALM_S = 20.0
PROMPT_S = 2.0
LONGEST_S = 240.0


@dataclass(frozen=True)
class Call:
    """One prediction: when it was requested, when it ended, and why it failed."""

    begun_s: float
    ended_s: float
    error: str | None


class Load:
    """Requests predictions at a steady rate, regardless of how long each takes."""

    def __init__(self, url: str, per_second: float) -> None:
        self._url = url
        self._pause_s = 1 / per_second
        self._stopped = threading.Event()
        self.calls: list[Call] = []

    def run(self) -> None:
        """Request predictions until :meth:`stop`."""
        image = picture(500)
        with Client(self._url) as client, ThreadPoolExecutor(256) as callers:
            start_s = time.monotonic()
            for turn in itertools.count():
                if self._stopped.wait(max(0.0, start_s + turn * self._pause_s - time.monotonic())):
                    return
                callers.submit(self._predict, client, image)

    def stop(self) -> None:
        """Request no more predictions."""
        self._stopped.set()

    def is_calm(self, since_s: float = -math.inf) -> bool:
        """Whether every prediction of the last seconds, and since then, was answered promptly."""
        now = time.monotonic()
        lately = [call for call in list(self.calls) if call.ended_s > now - CALM_S]
        prompt = all(call.error is None and call.ended_s - call.begun_s < PROMPT_S for call in lately)
        return now > since_s + CALM_S and len(lately) > 0.8 * CALM_S / self._pause_s and prompt

    def _predict(self, client: Client, image: bytes) -> None:
        begun_s, error = time.monotonic(), None
        try:
            client.predict(image)
        except ServiceError as refused:
            error = str(refused)
        self.calls.append(Call(begun_s, time.monotonic(), error))


@contextmanager
def steady(url: str, per_second: float) -> Iterator[Load]:
    """Predictions while the block runs; it ends once all are answered."""
    load = Load(url, per_second)
    thread = threading.Thread(target=load.run)
    thread.start()
    try:
        yield load
    finally:
        load.stop()
        thread.join()


@dataclass(frozen=True)
class Outage:
    """The effects of one kill that clients noticed."""

    victim: str
    replicas: int
    requested: int
    failed: int
    longest_gap_s: float
    longest_call_s: float
    errors: tuple[str, ...]


def outage(victim: str, replicas: int, load: Load, pid: int, comes_back: bool = True) -> Outage:
    """Kill a process, wait until every part runs and is calm again, and evaluate the calls since."""
    killed_s = time.monotonic()
    kill(pid)
    # Workers end with their raylet, and a zombie would look alive to them.
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)
    if comes_back:
        until(lambda: (pid not in service_pids() and is_complete(replicas)) or None, LONGEST_S)
    complete_s = time.monotonic()
    until(lambda: load.is_calm(complete_s) or None, LONGEST_S)
    calls = sorted((call for call in list(load.calls) if call.ended_s > killed_s - 1), key=lambda call: call.ended_s)
    answered = [call.ended_s for call in calls if call.error is None]
    since = [call for call in calls if call.ended_s > killed_s]
    return Outage(
        victim,
        replicas,
        len(since),
        sum(call.error is not None for call in since),
        max(later - earlier for earlier, later in itertools.pairwise(answered)),
        max(call.ended_s - call.begun_s for call in since),
        tuple(sorted({call.error for call in since if call.error is not None})),
    )


def outages(replicas: int, per_second: float) -> Iterator[Outage]:
    """Kill every victim once, with this number of replicas."""
    # Short, because the paths of sockets must be.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        system = build_system(Path(folder) / "system", "minute", ROWS)
        head = {"num_cpus": 0, "include_dashboard": False, "temp_dir": folder}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        ray.init(address=cluster.address, namespace=NAMESPACE, log_to_driver=False, logging_level="ERROR")
        try:
            site = StoreRef(system.store.uri, str(system.keys))
            placement = owner_placement(OwnersConfig(max_resident_owners=1), system.store, system.manifest)
            # All nodes are this machine and see its folder, so the check for it is left out.
            coordinator = open_coordinator(site, system.manifest.store_id, placement)
            ray.get(coordinator.status.remote())
            config = ServingConfig(replicas=replicas)
            url = start_service(system.store, system.keys, config, "127.0.0.1", free_port())
            with steady(url, per_second) as load:
                until(lambda: load.is_calm() or None, LONGEST_S)
                for victim, prefix in VICTIMS.items():
                    yield outage(victim, replicas, load, named(prefix)[0])
                # No other node has room for its replica.
                yield outage(RAYLET, replicas, load, raylet_of_a_replica(nodes), comes_back=False)
            stop_service()
        finally:
            ray.shutdown()
            cluster.shutdown()


def service_pids() -> set[int]:
    """Processes of the running service."""
    return {pid for prefix in VICTIMS.values() for pid in named(prefix)}


def is_complete(replicas: int) -> bool:
    """Whether every part of the service runs: a proxy on each node that has a replica, and one on the head."""
    required = {"replica": replicas, "Serve proxy": replicas + 1, "Serve controller": 1, "coordinator": 1}
    return all(len(named(VICTIMS[victim])) >= number for victim, number in required.items())


def raylet_of_a_replica(nodes: list[Any]) -> int:
    """The raylet of a node that has a replica."""
    replicas = set(named(VICTIMS["replica"]))
    raylets: list[int] = [node.all_processes["raylet"][0].process.pid for node in nodes]
    return next(pid for pid in raylets if not replicas.isdisjoint(descendants(pid)))


def table(results: list[Outage], command: str) -> str:
    """The outages as lines of a page."""
    today, load = datetime.now(UTC).date().isoformat(), os.getloadavg()[1]
    lines = [
        f"`{command}`, {today}, {os.cpu_count()} CPU cores, load {load:.0f}.",
        "",
        "| killed | replicas | predictions meanwhile | failed | longest gap, s | longest call, s |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for each in results:
        gap_s, call_s = f"{each.longest_gap_s:.1f}", f"{each.longest_call_s:.1f}"
        row = (each.victim, each.replicas, each.requested, each.failed, gap_s, call_s)
        lines.append("| " + " | ".join(map(str, row)) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run as the command line says; 1 if a request failed because one of two replicas was killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--per-second", type=float, default=5.0)
    parser.add_argument("--out", type=Path, help="the page whose table is replaced")
    arguments = parser.parse_args()
    os.environ["RAY_ADDRESS"] = "local"
    # As lmeraser sets it on a small machine.
    os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "30")
    authenticate()
    results: list[Outage] = []
    for replicas in arguments.replicas:
        for result in outages(replicas, arguments.per_second):
            results.append(result)
            print(result, flush=True)
    options = f"--replicas {' '.join(map(str, arguments.replicas))} --per-second {arguments.per_second:g}"
    page = table(results, f"python tests/faults/outages.py {options}")
    print(page)
    if arguments.out is not None:
        start, end = "<!-- table -->\n", "<!-- end of table -->\n"
        before, _, old = arguments.out.read_text().partition(start)
        arguments.out.write_text(before + start + page + end + old.partition(end)[2])
    return int(any(each.failed for each in results if each.victim == "replica" and each.replicas > 1))


if __name__ == "__main__":
    sys.exit(main())
