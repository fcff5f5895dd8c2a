"""How much slower are predictions and deletions while a store is rebuilt?

A service over a store of a setting's rows, in a Ray of its own. One client predicts, image after image; another deletes
one row after the other, of no coreset, and waits until each is erased. They do so while nothing else happens, and while
the store is rebuilt with half of ``heads.head_dim``: all rows pass through the backbone, and all clusters are tuned.
Both are in one run, so that other work on the machine affects both. Writes ``during_rebuild.json``.

    RAY_ADDRESS=local python -m benchmarks.bench_during_rebuild --data ../shared/data --out /tmp/bench
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import httpx2
import ray

from actors.remote.placement import StoreRef
from benchmarks.bench_rebuild import Bench, made
from benchmarks.lib.background import meanwhile
from benchmarks.lib.durations import seconds_between, spread
from benchmarks.lib.harness import machine
from benchmarks.lib.plotting import DOCS
from benchmarks.lib.settings import SIZES, find_setting
from benchmarks.lib.synthetic_stores import DigitStore, coreset_ids
from cluster.rebuild import rebuild
from cluster.runtime import connect, coordinator_of, free_port
from cluster.service import start_service, stop_service
from lmeraser import Client
from lmeraser.config import Config, ServingConfig, StateConfig
from lmeraser.state.manifest import load_manifest

_TIMEOUT_S = 120
_CORESET_ROWS = 60


@dataclass
class Noted:
    """What clients noted.

    Attributes:
        answered_s: seconds of each prediction.
        failed: how many were not answered with 200.
        erased_s: seconds from accepted to erased of each deletion.
    """

    answered_s: list[float] = field(default_factory=list)
    failed: int = 0
    erased_s: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """Counts and times."""
        return {
            "predictions": len(self.answered_s),
            "failed": self.failed,
            "answered_s": spread(self.answered_s),
            "deletions": len(self.erased_s),
            "erased_s": spread(self.erased_s),
            "load": round(os.getloadavg()[0], 1),
        }


@dataclass(frozen=True)
class Clients:
    """One that predicts and one that deletes.

    Attributes:
        url: the service's.
        image: what is predicted.
        rows: ids of rows that are deleted, one after the other.
    """

    url: str
    image: bytes
    rows: Iterator[str]

    def predict(self, noted: Noted, ended: threading.Event) -> None:
        """Predict until the event is set, without the retries of the project's client."""
        headers = {"Content-Type": "image/png"}
        with httpx2.Client(base_url=self.url, timeout=_TIMEOUT_S) as http:
            while not ended.is_set():
                begun_s = time.perf_counter()
                answer = http.post("/v1/predict", content=self.image, headers=headers)
                noted.answered_s.append(time.perf_counter() - begun_s)
                noted.failed += answer.status_code != httpx2.codes.OK

    def delete(self, noted: Noted, ended: threading.Event) -> None:
        """Delete until the event is set."""
        with Client(self.url) as client:
            while not ended.is_set():
                deletion = client.delete(sample_ids=[next(self.rows)])
                erased = client.wait(deletion.id, status="erased", timeout_s=_TIMEOUT_S)
                noted.erased_s.append(seconds_between(erased.accepted_at, erased.erased_at))


def during(bench: Bench, quiet_s: float) -> dict[str, Any]:
    """Figures while it is quiet, and while the store is rebuilt."""
    store, live = bench.store, load_manifest(bench.store)
    site = StoreRef(store.uri, str(bench.folder / "keys"))
    coordinator = coordinator_of(site, live)
    samples = bench.setting.training_rows(0)
    tuned_on = set(coreset_ids(DigitStore(bench.folder)))
    rows = iter([sample.sample_id for sample in samples if sample.sample_id not in tuned_on])
    url = start_service(store, bench.folder / "keys", ServingConfig(), "127.0.0.1", free_port())
    clients = Clients(url, samples[0].image, rows)
    try:
        # The first calls start processes.
        _noted(clients, lambda: time.sleep(5))
        quiet, _ = _noted(clients, lambda: time.sleep(quiet_s))
        wanted = _config(bench, live.config, live.public_digests["backbone"])
        busy, seconds = _noted(clients, lambda: rebuild(coordinator, site, wanted, {}, lambda *_: None))
    finally:
        stop_service()
    return {"quiet": quiet.figures(), "rebuild": busy.figures(), "rebuild_s": round(seconds, 1), **machine()}


def _config(bench: Bench, live: StateConfig, digest: str) -> Config:
    heads = replace(live.heads, head_dim=live.heads.head_dim // 2)
    state = {each.name: getattr(live, each.name) for each in fields(StateConfig)}
    return Config(**{**state, "heads": heads, "public": bench.setting.config.public, "backbone_digest": digest})


def _noted(clients: Clients, work: Any) -> tuple[Noted, float]:
    """What the clients note while the work is done, and how long it takes."""
    noted, begun_s = Noted(), time.perf_counter()
    with meanwhile(lambda ended: clients.predict(noted, ended)), meanwhile(lambda ended: clients.delete(noted, ended)):
        work()
        seconds = time.perf_counter() - begun_s
    return noted, seconds


def main() -> None:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, required=True, help="folder for stores")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the figures")
    parser.add_argument("--setting", default="digits", choices=list(SIZES))
    parser.add_argument("--quiet-s", type=float, default=40.0, help="seconds of quiet")
    arguments = parser.parse_args()
    setting = find_setting(arguments.setting, arguments.data)
    # Most rows are in no coreset, so deleting them tunes nothing.
    tuning = replace(setting.config.tuning, coreset_rows=_CORESET_ROWS)
    setting = replace(setting, config=replace(setting.config, tuning=tuning))
    bench, _ = made(setting, arguments.out / "during-rebuild")
    connect()
    try:
        found = {f"{setting.name}, {setting.rows} rows": during(bench, arguments.quiet_s)}
    finally:
        ray.shutdown()
    (arguments.docs / "during_rebuild.json").write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
