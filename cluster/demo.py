"""The main job on one machine, on bundled data or on some rows of a configuration.

Of the bundled data, public glyphs train a small Vision Transformer with Ray Train, and handwritten digits on grain
become private rows. The owner of each prompt cluster, an actor, tunes its prompt on the cluster's coreset; Ray Serve
answers over HTTP. The client asks for two deletions: of a row outside its coreset, which needs no tuning, and of one
inside. After each, the state is compared, byte for byte, with that of a fresh run on the remaining rows.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from actors.remote.placement import StoreRef
from cluster.build import open_or_build
from cluster.evaluate import accuracies
from cluster.jobs import ingest, tune
from cluster.pretrain import pretrain
from cluster.runtime import connect, coordinator_of, free_port
from cluster.service import start_service, stop_service
from lmeraser.client.client import Client
from lmeraser.config import Config, SourceConfig
from lmeraser.errors import LMEraserError
from lmeraser.progress import Progress
from lmeraser.proof.recompute import members
from lmeraser.proof.verify import current_commit
from lmeraser.state.commit import Commit
from lmeraser.state.keys import init_keys, load_hash_key
from lmeraser.state.pipeline import Pipeline
from lmeraser.state.pipeline_loading import load_pipeline
from lmeraser.state.rows import RowTable
from lmeraser.state.stored_objects import read_rows_of
from lmeraser.store import Store, open_store

CONFIG = Path(__file__).parent / "demo.yaml"
# So many rows show what there is to see, and take minutes on two cores.
MAX_PRIVATE_ROWS, MAX_TEST_ROWS = 3000, 1500


@dataclass(frozen=True)
class DemoReport:
    """The figures of one demo run.

    Attributes:
        rows: private rows before the deletions.
        skipped: why images were left out, by sample id.
        clusters: prompt clusters before the deletions.
        coreset_rows: how many of a cluster's rows its prompt is tuned on, at most.
        test_rows: rows that accuracy was measured on; 0 where the configuration names none.
        accuracy: on the test rows: "shared" head alone, "specialist" alone (λ = 1), and "both", as the service answers.
        deletions: of a row outside its coreset, and of one inside, where there are such rows; each with the deleted ids
            and their number of rows, whether they were in the coreset, seconds from the request to each status, how
            many owners tuned again of how many, whether any did, and the result of ``lmeraser verify`` in a separate
            process.
        deletion: the last of them.
        verify: its verification.
    """

    rows: int
    skipped: dict[str, str]
    clusters: int
    coreset_rows: int
    test_rows: int
    accuracy: dict[str, float]
    deletions: list[dict[str, Any]]
    deletion: dict[str, Any]
    verify: dict[str, Any]


@dataclass(frozen=True)
class Choice:
    """A row that the demo deletes.

    Attributes:
        sample_id: the row.
        in_coreset: whether its cluster's prompt was tuned on it.
    """

    sample_id: str
    in_coreset: bool


def run_demo(config: Config, workdir: Path, report: Progress) -> DemoReport:
    """Run the demo in the folder ``workdir``. A trained backbone is kept for the next run; the store is made again.

    Args:
        config: names the rows, of which the demo takes at most ``MAX_PRIVATE_ROWS`` and ``MAX_TEST_ROWS``. The store
            and the keys that it may name are not touched.
        workdir: the folder.
        report: called with what is being done, how much of it is done, and how much there is.

    Raises:
        LMEraserError: when a step fails.
    """
    test = _at_most(config.test, MAX_TEST_ROWS) if config.test is not None else None
    config = replace(config, private=_at_most(config.private, MAX_PRIVATE_ROWS), test=test)
    store = _new_store(workdir.absolute(), config, report)
    keys = workdir.absolute() / "keys"
    built = open_or_build(config, store, keys, report, skip_bad=True)
    manifest = built.manifest
    site = StoreRef(store.uri, str(keys))
    coordinator = coordinator_of(site, manifest, config.owners)
    ingested = ingest(
        coordinator,
        site,
        manifest,
        config.private,
        skip_bad=True,
        force=False,
        report=report,
        images=config.images,
    )
    tune(coordinator, report)
    before = current_commit(store)
    hash_key = load_hash_key(keys)
    tables = [read_rows_of(store, hash_key, entry) for entry in before.clusters]
    chosen = rows_to_delete(load_pipeline(store, manifest), RowTable.concatenate(tables, 0))
    url = start_service(store, keys, config.serving, "127.0.0.1", free_port(), config.owners)
    try:
        with Client(url) as client:
            tested = accuracies(client, config, (0.0, 1.0, None), report) if config.test is not None else None
            deletions = [_delete(client, store, keys, choice, report) for choice in chosen]
    finally:
        stop_service()
    return DemoReport(
        rows=before.rows,
        skipped={**built.skipped, **ingested.skipped},
        clusters=len(before.clusters),
        coreset_rows=config.tuning.coreset_rows,
        test_rows=tested.rows if tested is not None else 0,
        accuracy=dict(zip(("shared", "specialist", "both"), tested.by_weight.values(), strict=True)) if tested else {},
        deletions=deletions,
        deletion=deletions[-1],
        verify=deletions[-1]["verify"],
    )


def rows_to_delete(pipeline: Pipeline, table: RowTable) -> tuple[Choice, ...]:
    """A row outside the coreset of its cluster and one inside, both of the largest cluster that has such rows.

    Which clusters there are must not depend on either row: a deletion that moves a cluster's borders takes a tuning.
    Few rows may have no such cluster: then just a row of the largest cluster is chosen.

    Args:
        pipeline: of the store.
        table: all its rows.
    """
    bits_N = table.bits(pipeline.config.seed)
    partition = pipeline.partition(table.anchors_N, bits_N)
    largest_first = sorted(members(partition, table, bits_N).values(), key=len, reverse=True)
    for rows in largest_first:
        inside = pipeline.coreset(rows).sample_ids
        outside = sorted(set(rows.sample_ids).difference(inside))
        if not outside:
            continue
        chosen = outside[0], inside[0]
        remains_N = ~np.isin(table.sample_ids, chosen)
        remaining = pipeline.partition(table.anchors_N[remains_N], bits_N[remains_N])
        if [cluster.key for cluster in remaining.clusters] == [cluster.key for cluster in partition.clusters]:
            return Choice(outside[0], in_coreset=False), Choice(inside[0], in_coreset=True)
    return (Choice(pipeline.coreset(largest_first[0]).sample_ids[0], in_coreset=True),)


def _at_most(source: SourceConfig, rows: int) -> SourceConfig:
    return replace(source, max_rows=min(rows, source.max_rows or rows))


def _new_store(workdir: Path, config: Config, report: Progress) -> Store:
    """A new store; it holds the weights, if they are trained."""
    workdir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (workdir / "keys").exists():
        init_keys(workdir / "keys")
    connect()
    if (workdir / "store").exists():
        shutil.rmtree(workdir / "store")
    store = open_store(str(workdir / "store"))
    if config.backbone.weights == "trained":
        training = open_store(str(workdir / "training"))
        weights = pretrain(config, training, report)
        store.put(weights, training.get(weights))
    return store


def _delete(client: Client, store: Store, keys: Path, choice: Choice, report: Progress) -> dict[str, Any]:
    """Delete a row, wait until that is completed, and verify the state."""
    before = current_commit(store)
    begun = time.monotonic()
    deletion = client.delete(sample_ids=[choice.sample_id])
    accepted_s = time.monotonic() - begun
    report("deletion", 1, 3)
    client.wait(deletion.id, status="erased")
    erased_s = time.monotonic() - begun
    report("deletion", 2, 3)
    completed = client.wait(deletion.id, status="completed")
    completed_s = time.monotonic() - begun
    report("deletion", 3, 3)
    client.receipt(deletion.id)
    retuned = _retuned(before, current_commit(store))
    return {
        "sample_ids": [choice.sample_id],
        "in_coreset": choice.in_coreset,
        "rows": completed.rows,
        "accepted_s": accepted_s,
        "erased_s": erased_s,
        "completed_s": completed_s,
        "tuned": retuned > 0,
        "owners_retuned": retuned,
        "clusters_total": len(before.clusters),
        "verify": _verify(store, keys),
    }


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
