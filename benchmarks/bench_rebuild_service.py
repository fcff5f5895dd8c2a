"""What callers notice of a rebuild: latencies of predictions, and seconds from accepted to erased, against quiet.

A service over the tuned digits of ``bench_rebuild``, one replica, through Ray. Clients predict one image after the
other, and one row after the other is deleted: first while nothing else happens, then while everything is computed
again under another seed. It ends with an error when a prediction fails. Writes ``rebuild-service.json``.

    RAY_ADDRESS=local python -m benchmarks.bench_rebuild_service --out /tmp/bench
"""

from __future__ import annotations

import argparse
import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import ray

from actors.remote.placement import StoreRef
from benchmarks.lib.background import meanwhile
from benchmarks.lib.durations import seconds_between, spread
from benchmarks.lib.load_generator import send_load
from benchmarks.lib.plotting import DOCS
from benchmarks.lib.settings import DIGITS_CONFIG
from benchmarks.lib.synthetic_stores import DigitStore, copy_of
from cluster.rebuild import rebuild
from cluster.runtime import connect, coordinator_of, free_port
from cluster.service import start_service, stop_service
from lmeraser import Client
from lmeraser.config import Config, ServingConfig, StateConfig, load_config
from lmeraser.data import open_source
from lmeraser.state.manifest import load_manifest
from lmeraser.store import LocalStore

CLIENTS = 2
_TURN_S = 10.0


class Deleter:
    """Deletes one row after the other; ``seconds`` has the time from accepted to erased of each."""

    def __init__(self, url: str, sample_ids: list[str]) -> None:
        self.seconds: list[float] = []
        self._url = url
        self._sample_ids = iter(sample_ids)

    def until(self, ended: threading.Event) -> None:
        """Delete until the event is set."""
        with Client(self._url) as client:
            while not ended.is_set():
                deletion = client.delete(sample_ids=[next(self._sample_ids)])
                done = client.wait(deletion.id, status="erased", timeout_s=300)
                self.seconds.append(seconds_between(done.accepted_at, done.erased_at))


def main() -> None:
    """Measure, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of bench_rebuild")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the figures")
    arguments = parser.parse_args()
    original = arguments.out / "rebuild-digits" / "original"
    connect()
    try:
        with copy_of(DigitStore(original)) as folder:
            found = measured(folder)
    finally:
        ray.shutdown()
    (arguments.docs / "rebuild-service.json").write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


def measured(folder: Path) -> dict[str, Any]:
    """Both phases."""
    store = LocalStore(folder / "store")
    manifest, site = load_manifest(store), StoreRef(store.uri, str(folder / "keys"))
    source = open_source(load_config(DIGITS_CONFIG).private)
    rows = list(source.samples(source.labels))
    coordinator = coordinator_of(site, manifest)
    url = start_service(store, folder / "keys", ServingConfig(), "127.0.0.1", free_port())
    wanted = config_of(replace(manifest.config, seed=manifest.config.seed + 1))
    try:
        names = [row.sample_id for row in rows]
        deleter = Deleter(url, names)
        with meanwhile(deleter.until):
            quiet_s = load(url, rows[0].image) + load(url, rows[0].image)
        quiet = {"prediction_s": spread(quiet_s), "erased_s": spread(deleter.seconds)}
        count = len(deleter.seconds)
        rebuilding_s: list[float] = []
        with meanwhile(deleter.until), ThreadPoolExecutor(1) as thread:
            job = thread.submit(rebuild, coordinator, site, wanted, {}, lambda *_: None)
            while not job.done():
                rebuilding_s += load(url, rows[0].image)
            summary = job.result()
        during = {"prediction_s": spread(rebuilding_s), "erased_s": spread(deleter.seconds[count:])}
    finally:
        stop_service()
    counts = {"predictions": len(rebuilding_s), "deletions": len(deleter.seconds) - count, "rows": summary.rows}
    return {"quiet": quiet, "during_a_rebuild": during, **counts}


def load(url: str, image: bytes) -> list[float]:
    """Latencies of predictions, in seconds."""
    return asyncio.run(send_load(f"{url}/v1/predict", CLIENTS, _TURN_S, image))


def config_of(state: StateConfig) -> Config:
    """A configuration file that asks for this state; its public rows are those of the digits."""
    sections = {each.name: getattr(state, each.name) for each in fields(StateConfig)}
    return replace(load_config(DIGITS_CONFIG), **sections)


if __name__ == "__main__":
    main()
