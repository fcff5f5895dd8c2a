"""The main job on bundled data, on one machine.

Public glyphs train a small Vision Transformer with Ray Train; handwritten digits become private rows; one owner actor
for each prompt cluster tunes its prompt; Ray Serve answers over HTTP; the client asks for a deletion; and the state is
compared, byte for byte, with that of a fresh run on the remaining rows.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.remote.placement import StoreRef
from cluster.build import open_or_build
from cluster.evaluate import accuracies
from cluster.jobs import ingest, tune
from cluster.pretrain import pretrain
from cluster.runtime import connect, coordinator_of, free_port
from cluster.service import start_service, stop_service
from lmeraser.client.client import Client
from lmeraser.config import Config, load_config
from lmeraser.errors import LMEraserError
from lmeraser.progress import Progress
from lmeraser.proof.verify import current_commit
from lmeraser.state.commit import Commit
from lmeraser.state.keys import init_keys
from lmeraser.state.log import Log
from lmeraser.state.rows import RowTable
from lmeraser.store import Store, open_store

CONFIG = Path(__file__).parent / "demo.yaml"


@dataclass(frozen=True)
class DemoReport:
    """The figures of one demo run.

    Attributes:
        rows: private rows before the deletion.
        clusters: prompt clusters before the deletion.
        accuracy: on the test rows: "shared" head alone, "specialist" alone (λ = 1), and "both", as the service answers.
        deletion: the deleted ids, how many owners tuned again of how many, and seconds from the request to each status.
        verify: the result of ``lmeraser verify`` in a separate process.
    """

    rows: int
    clusters: int
    accuracy: dict[str, float]
    deletion: dict[str, Any]
    verify: dict[str, Any]


def run_demo(workdir: Path, report: Progress) -> DemoReport:
    """Run the demo in the folder ``workdir``. The trained backbone is kept for the next run; the store is made again.

    Raises:
        LMEraserError: when a step fails.
    """
    config = load_config(CONFIG)
    store = _new_store(workdir.absolute(), config, report)
    keys = workdir.absolute() / "keys"
    manifest = open_or_build(config, store, keys, report).manifest
    site = StoreRef(store.uri, str(keys))
    coordinator = coordinator_of(site, manifest, config.owners)
    ingest(coordinator, site, manifest, config.private, skip_bad=False, force=False, report=report)
    tune(coordinator, report)
    before = current_commit(Log(store))
    url = start_service(store, keys, config.serving, "127.0.0.1", free_port())
    try:
        with Client(url) as client:
            accuracy = accuracies(client, config, (0.0, 1.0, None), report)
            deletion = _delete(client, _some_sample(store, before), report)
    finally:
        stop_service()
    after = current_commit(Log(store))
    return DemoReport(
        rows=before.rows,
        clusters=len(before.clusters),
        accuracy=dict(zip(("shared", "specialist", "both"), accuracy.by_weight.values(), strict=True)),
        deletion={**deletion, "owners_retuned": _retuned(before, after), "clusters_total": len(before.clusters)},
        verify=_verify(store, keys),
    )


def _new_store(workdir: Path, config: Config, report: Progress) -> Store:
    """A new store that holds only the trained weights."""
    workdir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (workdir / "keys").exists():
        init_keys(workdir / "keys")
    connect()
    training = open_store(str(workdir / "training"))
    weights = pretrain(config, training, report)
    if (workdir / "store").exists():
        shutil.rmtree(workdir / "store")
    store = open_store(str(workdir / "store"))
    store.put(weights, training.get(weights))
    return store


def _some_sample(store: Store, commit: Commit) -> str:
    """A row of the largest cluster."""
    entry = max(commit.clusters, key=lambda entry: (entry.rows, entry.key))
    name = entry.segments[0].rows_object
    return RowTable.from_parquet(store.get(name), name).sample_ids[0]


def _delete(client: Client, sample_id: str, report: Progress) -> dict[str, Any]:
    begun = time.monotonic()
    deletion = client.delete(sample_ids=[sample_id])
    accepted_s = time.monotonic() - begun
    report("deletion", 1, 3)
    client.wait(deletion.id, status="erased")
    erased_s = time.monotonic() - begun
    report("deletion", 2, 3)
    client.wait(deletion.id, status="completed")
    completed_s = time.monotonic() - begun
    report("deletion", 3, 3)
    client.receipt(deletion.id)
    return {"sample_ids": [sample_id], "accepted_s": accepted_s, "erased_s": erased_s, "completed_s": completed_s}


def _retuned(before: Commit, after: Commit) -> int:
    """How many clusters have a prompt that they did not have before."""
    known = {entry.prompt_object for entry in before.clusters}
    return sum(entry.prompt_object is not None and entry.prompt_object not in known for entry in after.clusters)


def _verify(store: Store, keys: Path) -> dict[str, Any]:
    """Run ``lmeraser verify`` in a separate process, which shares no state with this one."""
    command = [sys.executable, "-m", "cluster.cli", "verify", "--store", store.uri, "--keys", str(keys), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if done.returncode not in (0, 1) or not done.stdout:
        raise LMEraserError(f"lmeraser verify ended with exit code {done.returncode}")
    verification = json.loads(done.stdout)
    return {name: verification[name] for name in ("equal", "state_root", "fresh_root")}
