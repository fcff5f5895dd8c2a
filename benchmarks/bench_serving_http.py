"""How many predictions per second over HTTP, and how long does each take, against a bare Ray Serve application?

Both run in one Ray, a replica with one thread each: the service of this project over a store of digits, and an
application that passes the image through the same backbone once, as the service does after the image is routed, and
returns the index of the greatest feature. DeiT-Tiny at 96 px; weights and specialists are not trained, because seconds
do not depend on them. Tokens make the service's pass longer than the bare application's; a pad prompt does not. A load
generator in a process of its own keeps that many requests of one image each open. The two take turns; in a third turn
the service answers while rows are deleted from its store, one request after the other, and owners tune.

    RAY_ADDRESS=local python -m benchmarks.bench_serving_http --out /tmp/serving-http --prompt pad

Prints one JSON object for each number of clients. It ends with an error when a request fails.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
from ray import serve

from actors.remote.placement import StoreRef
from benchmarks.lib.background import meanwhile
from benchmarks.lib.load_generator import send_load
from benchmarks.lib.settings import DIGITS_CONFIG
from benchmarks.lib.synthetic_stores import DigitStore, copy_of, digit_samples, fill, row_table, untrained_artifacts
from cluster.runtime import connect, coordinator_of, free_port
from cluster.service import start_service, stop_service
from lmeraser import Client
from lmeraser.config import BackboneConfig, PromptConfig, ServingConfig, load_config
from lmeraser.data import decode_image, open_source
from lmeraser.learning.backbone import create_model
from lmeraser.state.keys import init_keys
from lmeraser.state.manifest import load_manifest
from lmeraser.state.public_artifacts import create_store
from lmeraser.store import LocalStore
from serving.batcher import Batcher

if TYPE_CHECKING:
    from starlette.requests import Request

IMAGE_PX, ROWS, PUBLIC_ROWS, ANCHORS = 96, 600, 1200, 128
CLIENTS = (1, 8, 32)


def main() -> None:
    """Bring both up, and let them take turns under load."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the store; made if it is missing")
    parser.add_argument("--prompt", choices=("token", "pad"), default="token", help="kind of the store's prompts")
    parser.add_argument("--seconds", type=float, default=8.0, help="of load in each turn")
    parser.add_argument("--turns", type=int, default=3, help="of each application, at each number of clients")
    arguments = parser.parse_args()
    if not arguments.out.exists():
        make_store(arguments.out, PromptConfig(arguments.prompt))
    connect()
    try:
        with copy_of(DigitStore(arguments.out)) as folder:
            for clients in CLIENTS:
                with both_up(folder) as url:
                    print(json.dumps(under_load(url, clients, arguments.turns, arguments.seconds)), flush=True)
    finally:
        ray.shutdown()


@contextmanager
def both_up(folder: Path) -> Iterator[str]:
    """The service and the bare application, each under its own route; the address."""
    store = LocalStore(folder / "store")
    coordinator_of(StoreRef(store.uri, str(folder / "keys")), load_manifest(store))
    config = ServingConfig()
    url = start_service(store, folder / "keys", config, "127.0.0.1", free_port())
    serve.run(
        serve.deployment(
            name="bare",
            max_ongoing_requests=2 * config.max_batch_images + 16,
            ray_actor_options={"num_cpus": config.threads},
        )(Bare).bind(config.threads),
        name="bare",
        route_prefix="/bare",
    )
    try:
        yield url
    finally:
        serve.delete("bare")
        stop_service()


class Bare:
    """The backbone alone behind Ray Serve, with batches as the service forms them."""

    def __init__(self, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._model = create_model(BackboneConfig(image_px=IMAGE_PX)).eval()
        self._batcher = Batcher(self._greatest, max_images=64)

    async def __call__(self, request: Request) -> dict[str, int]:
        image_3PP = await asyncio.to_thread(decode_image, await request.body(), IMAGE_PX)
        return {"greatest": await self._batcher(image_3PP[None])}

    def _greatest(self, requests: Sequence[np.ndarray]) -> list[int]:
        import torch

        with torch.inference_mode():
            pixels_N3PP = torch.from_numpy(np.concatenate(requests)).float() / 255
            greatest: list[int] = self._model(pixels_N3PP).argmax(dim=1).tolist()
            return greatest


def under_load(url: str, clients: int, turns: int, seconds: float) -> dict[str, Any]:
    """Both under the same load, in turn, and the service while rows are deleted."""
    addresses = {"service": f"{url}/v1/predict", "bare": f"{url}/bare"}
    latencies_of: dict[str, list[list[float]]] = {name: [] for name in (*addresses, "while_deleting")}
    for _, (name, address) in itertools.product(range(turns), addresses.items()):
        latencies_of[name].append(generate_load(address, clients, seconds))
    completed: list[str] = []
    with meanwhile(partial(delete, url, completed)):
        for _ in range(turns):
            latencies_of["while_deleting"].append(generate_load(addresses["service"], clients, seconds))
    by_turn = {name: figures(turns_s, seconds) for name, turns_s in latencies_of.items()}
    return {"clients": clients, **by_turn, "deletions_completed": len(completed)}


def generate_load(address: str, clients: int, seconds: float) -> list[float]:
    """Latencies, in seconds, of the answers to a load generator in a process of its own."""
    source = open_source(load_config(DIGITS_CONFIG).private)
    command = [sys.executable, "-m", send_load.__module__, address, str(clients), str(seconds)]
    image = next(iter(source.samples(source.labels))).image
    done = subprocess.run(command, input=image, stdout=subprocess.PIPE, check=True)
    latencies: list[float] = json.loads(done.stdout)
    return latencies


def delete(url: str, completed: list[str], ended: threading.Event) -> None:
    """Delete one row after the other, each when the previous deletion is complete, and note the ids of these."""
    with Client(url) as client:
        for sample in digit_samples(load_config(DIGITS_CONFIG), ROWS):
            if ended.is_set():
                return
            deletion = client.delete(sample_ids=[sample.sample_id])
            if deletion.unknown_ids:
                continue
            completed.append(client.wait(deletion.id, timeout_s=600).id)


def figures(turns: Sequence[Sequence[float]], seconds: float) -> dict[str, float]:
    """Requests per second, the median over turns, and percentiles of the latency over all."""
    latencies = [latency for turn in turns for latency in turn]
    cuts = statistics.quantiles(latencies, n=100, method="inclusive")
    return {
        "requests_per_s": round(statistics.median(len(turn) / seconds for turn in turns), 1),
        "n": len(latencies),
        **{f"p{percent}_ms": round(cuts[percent - 1] * 1000, 1) for percent in (50, 95, 99)},
    }


def make_store(folder: Path, prompt: PromptConfig) -> None:
    """A store of digits whose specialists were written without tuning."""
    config = load_config(DIGITS_CONFIG)
    state_config = config.state(open_source(config.private).labels)
    state_config = replace(
        state_config,
        backbone=BackboneConfig(image_px=IMAGE_PX),
        prompt=prompt,
        partition=replace(state_config.partition, anchors=ANCHORS),
    )
    artifacts = untrained_artifacts(state_config, config, PUBLIC_ROWS)
    create_store(LocalStore(folder / "store"), state_config, artifacts)
    init_keys(folder / "keys")
    fill(folder, row_table(DigitStore(folder).pipeline, digit_samples(config, ROWS)))


if __name__ == "__main__":
    main()
