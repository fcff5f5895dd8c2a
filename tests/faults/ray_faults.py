"""Kill parts of a real Ray cluster while a deletion runs, and check the store.

The victims: coordinator, owners, Serve replicas and Serve controller of a running service; the coordinator while the
disk is full; the raylet of the node; every process of the cluster. After the last two, a new cluster starts on
the same store. Each kill happens at a random moment after the deletion was accepted. The deletion has to
complete without intervention.

Afterwards: the root is that of a fresh run on the remaining rows, the chain is valid, the log has each step of the
deletion once, its receipt is valid, and the service answers from the newest commit.

    python tests/faults/ray_faults.py --runs 5 --out docs/evidence/kills-ray.md

Needs the right to mount, for the full disk: run it under ``unshare -rm`` unless you are root.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import ray
from commits import receipts_of
from crash_points import Tally
from disk_faults import Disk, small_disk
from processes import REPLICA, descendants, kill, named
from small_system import System, build_system, picture, samples

from actors.remote.placement import StoreRef
from cluster.runtime import connect, coordinator_of, free_port
from cluster.service import start_service, stop_service
from lmeraser.client.client import Client
from lmeraser.config import ServingConfig
from lmeraser.errors import ServiceError
from lmeraser.proof.receipts import verify_receipt
from lmeraser.state.keys import load_signing_key
from lmeraser.state.log import Log
from lmeraser.state.record_bodies import deletions_of
from lmeraser.store import LocalStore

CLUSTER = Path(__file__).parents[1] / "support" / "one_cluster.py"
Answer = TypeVar("Answer")
REMAINING = 20
TIMEOUT_S = 300.0
MAX_DELAY_S = 1.5
FULL_S = 5.0
OF_SERVICE = {
    "coordinator": "ray::CoordinatorActor",
    "owners": "ray::OwnerActor",
    "Serve replica": REPLICA,
    "Serve controller": "ray::ServeController",
}
WHOLE, RAYLET, FULL = "whole cluster", "raylet", "coordinator, disk full for 5 s"


class RayFaults:
    """Runs on one store; each deletes another row."""

    def __init__(self, system: System, rows: int, seed: int) -> None:
        self._system = system
        self._rows = samples(0, rows)
        self._chance = random.Random(seed)

    def next_row(self) -> str:
        """The row to delete next."""
        return self._rows.pop(self._chance.randrange(len(self._rows))).sample_id

    def wait_a_moment(self) -> None:
        """Sleep until the moment of the kill."""
        time.sleep(self._chance.uniform(0.0, MAX_DELAY_S))

    def check(self, name: str, deletion_id: str, tally: Tally) -> None:
        """Wait until the deletion completes by itself, and check the store."""
        tally.runs += 1
        until = time.monotonic() + TIMEOUT_S
        while (status := self._system.coordinator_says(deletion_id)) != "completed":
            if time.monotonic() > until or status == "failed":
                tally.lost += 1
                tally.faults.append(f"{name}: deletion {deletion_id} is {status}")
                return
            time.sleep(0.1)
        tally.finished += 1
        faults = []
        if self._system.newest().root != self._system.fresh_root(self._rows):
            faults.append("the root is not that of a fresh run")
        records = Log(self._system.store).advance()
        kinds = sorted(record.kind for record in records if deletion_id in deletions_of(record))
        if kinds != ["completed", "erased", "request"]:
            faults.append(f"the log has {kinds}")
        receipt = json.loads(self._system.store.get(receipts_of(self._system.store)[deletion_id][-1]))
        verify_receipt(receipt, load_signing_key(self._system.keys).public_key())
        tally.wrong += bool(faults)
        tally.faults += (f"{name}: {fault}" for fault in faults)


def of_service(
    ray_faults: RayFaults, system: System, disk: Disk, runs: int, report: Callable[[str, Tally], None]
) -> None:
    """Kill parts of a running service."""
    connect()
    coordinator_of(StoreRef(system.store.uri, str(system.keys)), system.manifest)
    url = start_service(system.store, system.keys, ServingConfig(), "127.0.0.1", free_port())
    with Client(url) as client:
        for victim, prefix in (*OF_SERVICE.items(), (FULL, OF_SERVICE["coordinator"])):
            tally = Tally()
            for _ in range(runs):
                row = ray_faults.next_row()
                deletion = until_answered(partial(client.delete, sample_ids=[row], idempotency_key=row))
                ray_faults.wait_a_moment()
                if victim == FULL:
                    disk.fail("full", 0)
                pids = named(prefix)
                for pid in pids:
                    kill(pid)
                tally.kills += bool(pids)
                if victim == FULL:
                    time.sleep(FULL_S)
                    disk.recover()
                ray_faults.check(victim, deletion.id, tally)
                erased = system.last_that_erased()
                answer = until_answered(lambda: client.predict(picture(500)))
                if answer.commit < erased:
                    tally.faults.append(
                        f"{victim}: an answer from commit {answer.commit}, rows are erased since {erased}"
                    )
            report(victim, tally)
    stop_service()
    ray.shutdown()


def until_answered(ask: Callable[[], Answer]) -> Answer:
    """The answer of the service, once it gives one."""
    until = time.monotonic() + TIMEOUT_S
    while True:
        try:
            return ask()
        except ServiceError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def of_cluster(ray_faults: RayFaults, system: System, runs: int, report: Callable[[str, Tally], None]) -> None:
    """Kill the raylet, or all processes, and start a new cluster on the same store."""
    for victim in (RAYLET, WHOLE):
        tally = Tally()
        for _ in range(runs):
            first = cluster_on(system, ray_faults.next_row())
            deletion_id = line_of(first)
            ray_faults.wait_a_moment()
            # Parents first, so that nothing is restarted in between.
            everything = [first.pid, *reversed(list(descendants(first.pid)))]
            chosen = [pid for pid in everything if victim == WHOLE or is_raylet(pid)]
            for pid in chosen:
                kill(pid)
            tally.kills += bool(chosen)
            second = cluster_on(system)
            line_of(second)
            ray_faults.check(victim, deletion_id, tally)
            for process in (first, second):
                for pid in [process.pid, *reversed(list(descendants(process.pid)))]:
                    kill(pid)
                process.wait()
            for pid in everything:
                kill(pid)
        report(victim, tally)


def cluster_on(system: System, *sample_id: str) -> subprocess.Popen[str]:
    """A new cluster that accepts the deletion of this row, or only continues with the accepted ones."""
    command = [sys.executable, str(CLUSTER), system.store.uri, str(system.keys), *sample_id]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def line_of(process: subprocess.Popen[str]) -> str:
    """The line that the cluster prints once it runs."""
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if not line:
        raise RuntimeError("the cluster did not start")
    return line


def is_raylet(pid: int) -> bool:
    """Whether a process is a raylet."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == "raylet"
    except OSError:
        return False


def run_all(runs: int, seed: int) -> dict[str, Tally]:
    """Runs with each victim."""
    tallies: dict[str, Tally] = {}
    rows = runs * (len(OF_SERVICE) + len((FULL, RAYLET, WHOLE))) + REMAINING

    def report(name: str, tally: Tally) -> None:
        tallies[name] = tally
        print(name, tally, flush=True)

    with tempfile.TemporaryDirectory(prefix="lmeraser-ray-") as folder, small_disk(32) as disk:
        built = build_system(Path(folder), "minute", rows)
        shutil.copytree(built.store.uri, disk.folder / "store")
        system = replace(built, store=LocalStore(disk.folder / "store"))
        ray_faults = RayFaults(system, rows, seed)
        of_service(ray_faults, system, disk, runs, report)
        of_cluster(ray_faults, system, runs, report)
    return tallies


def table(tallies: dict[str, Tally], runs: int, seed: int) -> str:
    """The tallies as a page."""
    today = datetime.now(UTC).date().isoformat()
    rows = {name: (tally.runs, tally.kills, tally.finished, tally.lost, tally.wrong) for name, tally in tallies.items()}
    cells = [*rows.items(), ("**all**", tuple(map(sum, zip(*rows.values(), strict=True))))]
    lines = [
        "# Kills through Ray",
        "",
        f"`python tests/faults/ray_faults.py --runs {runs} --seed {seed}`, {today}, {os.cpu_count()} CPU cores.",
        "",
        "| killed | runs | kills | finished | lost | wrong |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *("| " + " | ".join(map(str, (name, *counts))) + " |" for name, counts in cells),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run as the command line says; 1 if anything was lost or wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    os.environ["RAY_ADDRESS"] = "local"
    tallies = run_all(arguments.runs, arguments.seed)
    page = table(tallies, arguments.runs, arguments.seed)
    print(page)
    if arguments.out is not None:
        arguments.out.write_text(page)
    faults = [fault for tally in tallies.values() for fault in tally.faults]
    print(*faults, sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
