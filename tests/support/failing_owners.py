"""Owners as Ray actors that fail with errors of CUDA: ``python failing_owners.py STORE KEYS ROW ROW ROW``.

A tuning that runs out of a GPU's memory, one with a broken context and a coordinator that is killed in between, and
rows that cannot be written. The observations go to stdout, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
from until import until

from actors.remote.names import NAMESPACE
from actors.remote.placement import StoreRef
from cluster.authentication import authenticate
from cluster.runtime import coordinator_of
from lmeraser.deletion import DeletionRequest
from lmeraser.state.log import Log
from lmeraser.state.manifest import load_manifest
from lmeraser.store import open_store

LONGEST_S = 150.0
FOLDER = "LMERASER_TEST_FAILING"


def install() -> None:
    """Make Ray's processes fail at the fail point in the file "how", while it exists; each leaves its pid."""
    import os
    import sys
    from pathlib import Path

    import actors.backlog
    import actors.planner

    actors.planner.MIN_BACKOFF_S = 0.05
    actors.backlog.MIN_BACKOFF_S = 0.3
    folder = Path(os.environ["LMERASER_TEST_FAILING"])

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event != "lmeraser.boundary" or not (how := folder / "how").exists():
            return
        where, kind, message = how.read_text().split("|")
        if arguments[0] == where:
            (folder / f"pid-{os.getpid()}").touch()
            if kind == "OutOfMemoryError":
                import torch

                raise torch.OutOfMemoryError(message)
            raise RuntimeError(message)

    sys.addaudithook(hook)


def run_failures(site: StoreRef, folder: Path, rows: list[str], report: dict[str, Any]) -> None:
    """Run all failures on a running Ray."""
    store = open_store(site.store_uri)
    coordinator = coordinator_of(site, load_manifest(store))
    how = folder / "how"

    def delete(row: str) -> str:
        deletion: str = ray.get(coordinator.delete.remote(DeletionRequest((row,)))).id
        return deletion

    def reaches(deletion_id: str, status: str) -> Any:
        def reached() -> Any | None:
            deletion = ray.get(coordinator.deletion.remote(deletion_id))
            return deletion if deletion.status == status else None

        return until(reached, LONGEST_S)

    def attempts() -> list[dict[str, Any]]:
        return [record.body for record in Log(store).advance() if record.kind == "attempt"]

    report["first term"] = ray.get(coordinator.status.remote()).term
    how.write_text("tuning started|OutOfMemoryError|CUDA out of memory.")
    first = delete(rows[0])
    report["out of memory"] = until(lambda: attempts() or None, LONGEST_S)[0]["reason"]
    how.unlink()
    reaches(first, "completed")
    report["term after out of memory"] = ray.get(coordinator.status.remote()).term

    how.write_text("rows read|RuntimeError|CUDA error: an illegal memory access was encountered")
    second = delete(rows[1])
    until(lambda: ray.get(coordinator.status.remote()).held_up or None, LONGEST_S)
    held_up = ray.get(coordinator.deletion.remote(second))
    report["held up"] = [held_up.status, held_up.reason]
    how.unlink()
    reaches(second, "completed")
    report["term after failed writes"] = ray.get(coordinator.status.remote()).term

    before = len(attempts())
    how.write_text("tuning started|RuntimeError|CUDA error: an illegal memory access was encountered")
    third = delete(rows[2])
    until(lambda: len(attempts()) >= before + 2 or None, LONGEST_S)
    ray.kill(coordinator, no_restart=False)
    until(lambda: restarted(coordinator, report["first term"]), LONGEST_S)
    report["after a restart"] = reaches(third, "failed").reason
    report["attempts"] = [attempt["coreset"] for attempt in attempts()[before:]]
    how.unlink()
    ray.get(coordinator.retry.remote(third))
    reaches(third, "completed")
    pids = [int(path.name.removeprefix("pid-")) for path in folder.glob("pid-*")]
    report["failed processes"] = len(pids)
    report["failed processes alive"] = [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def restarted(coordinator: Any, term: int) -> bool | None:
    """Whether another term has begun."""
    try:
        return ray.get(coordinator.status.remote()).term > term or None
    except ray.exceptions.RayActorError:
        time.sleep(0.2)
        return None


if __name__ == "__main__":
    store, keys, *rows = sys.argv[1:]
    report: dict[str, Any] = {}
    authenticate()
    with tempfile.TemporaryDirectory() as folder:
        os.environ[FOLDER] = folder
        environment: Any = {"worker_process_setup_hook": install, "env_vars": {FOLDER: folder}}
        quiet: Any = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
        ray.init(num_cpus=2, namespace=NAMESPACE, runtime_env=environment, **quiet)
        try:
            run_failures(StoreRef(store, keys), Path(folder), rows, report)
        finally:
            ray.shutdown()
    print(json.dumps(report))
