"""Does the whole path work on real images, and what does each prompt kind and each λ give?

Runs ``lmeraser ingest``, ``tune``, ``serve``, ``predict``, ``delete`` and ``verify`` for each example and prompt, and
prints one JSON object for each. Takes about eight minutes for each on two cores.

    python -m benchmarks.bench_examples --data ../shared/data --out /tmp/examples
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from benchmarks.lib.durations import seconds_between
from benchmarks.lib.harness import machine
from benchmarks.lib.settings import ROOT
from cluster.runtime import free_port
from lmeraser import Client
from lmeraser.config import load_config
from lmeraser.data import open_source
from lmeraser.errors import ServiceError

LMERASER = [sys.executable, "-m", "cluster.cli"]
PROMPTS: dict[str, dict[str, Any]] = {
    "token at depth 0": {"kind": "token", "tokens": 16, "depth": 0},
    "token at depth 6": {"kind": "token", "tokens": 16, "depth": 6},
    "pad": {"kind": "pad", "pad_px": 12},
}
DELETIONS = 2


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--example", nargs="*", default=["gtsrb", "cifar10"])
    parser.add_argument("--prompt", nargs="*", default=list(PROMPTS), choices=list(PROMPTS))
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="where the backbone runs")
    arguments = parser.parse_args()
    for example in arguments.example:
        for prompt in arguments.prompt:
            folder = arguments.out / f"{example}-{prompt.replace(' ', '-')}"
            result = run_example(example, prompt, folder, arguments.data, arguments.device)
            (folder / "result.json").write_text(json.dumps(result, indent=2))
            print(json.dumps(result), flush=True)


def run_example(example: str, prompt: str, folder: Path, data: str, device: str) -> dict[str, Any]:
    """One example with one prompt, from nothing to a verified state."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "config.yaml"
    value = yaml.safe_load((ROOT / "examples" / f"{example}.yaml").read_text())
    backbone = {**value["backbone"], "device": device}
    config.write_text(yaml.safe_dump({**value, "backbone": backbone, "prompt": PROMPTS[prompt]}))
    store = ["--store", str(folder / "store"), "--keys", str(folder / "keys")]
    source = ["--config", str(config), "--data", data]
    command("keys", "init", "--keys", str(folder / "keys"))
    ingested = command("ingest", *source, *store)
    tuned = command("tune", *store)
    clusters = command("clusters", "list", "--limit", "1000", "--store", str(folder / "store"))["clusters"]
    url = f"http://127.0.0.1:{free_port()}"
    with (folder / "serve.log").open("w") as log:
        service = subprocess.Popen(
            [*LMERASER, "serve", *store, "--port", url.rpartition(":")[2]], stdout=log, stderr=log
        )
    try:
        wait_until_ready(url)
        predicted = command("predict", "--test", *source, "--url", url)
        deletions = [
            command("delete", *store, "--sample-id", name) for name in first_sample_ids(config, data, DELETIONS)
        ]
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait(timeout=120)
    begun = time.monotonic()
    verified = command("verify", *store)
    rows = [cluster["rows"] for cluster in clusters]
    return {
        "example": example,
        "prompt": prompt,
        "rows": ingested["added"],
        "cluster_rows": rows,
        "tuned_clusters": sum(cluster["state"] == "tuned" for cluster in clusters),
        "sum_of_squared_shares": sum((count / sum(rows)) ** 2 for count in rows),
        "accuracy": predicted["accuracy"],
        "seconds": {
            "public": ingested["public_s"],
            "ingest": ingested["private_s"],
            "tune": tuned["seconds"],
            "verify": round(time.monotonic() - begun, 1),
        },
        "erased_s": [seconds(deletion, "erased_at") for deletion in deletions],
        "completed_s": [seconds(deletion, "completed_at") for deletion in deletions],
        "verify_equal": verified["equal"],
        **machine(),
    }


def command(*arguments: str) -> dict[str, Any]:
    """Run ``lmeraser`` with ``--json``; the object that it printed."""
    print("lmeraser", *arguments, file=sys.stderr, flush=True)
    done = subprocess.run([*LMERASER, *arguments, "--json"], stdout=subprocess.PIPE, check=True)
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


def first_sample_ids(config: Path, data: str, count: int) -> list[str]:
    """The first sample ids of the private rows."""
    source = open_source(load_config(config, {"data": data}).private)
    samples = source.samples(source.labels)
    return [next(samples).sample_id for _ in range(count)]


def wait_until_ready(url: str) -> None:
    """Return once the service answers."""
    deadline = time.monotonic() + 180
    while True:
        try:
            with Client(url) as client:
                client.clusters_page(limit=1)
            return
        except ServiceError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def seconds(deletion: dict[str, Any], step: str) -> float:
    """From acceptance to a later step."""
    return round(seconds_between(deletion["accepted_at"], deletion[step]), 3)


if __name__ == "__main__":
    main()
