"""How many predictions a second over HTTP, and how long does each take, against a bare Ray Serve application?

Both run in one Ray, a replica with one thread each: the service of this project over a store of digits, and an
application that passes the image through the same backbone as many times (twice) and returns the index of the greatest
feature.
DeiT-Tiny at 96 px; weights and specialists are not trained, seconds do not hang on them. Tokens make the second pass
longer than the bare application's; a pad prompt does not. A load generator in a process of its own keeps so many
requests of one image each open. The two take turns; in a third turn the service answers while rows are deleted from its
store, one request after the other, and owners tune.

    RAY_ADDRESS=local python benchmarks/serving_http.py --out /tmp/serving-http --prompt pad

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
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import numpy as np
import ray
from ray import serve
from stores import Prepared, a_copy, prepared, rows_of, samples

# The script serving.py beside this one would hide the package of the same name.
sys.path.remove(str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parent.parent / "tests" / "support"))

from meanwhile import meanwhile

from actors.remote.placement import StoreRef
from cluster.demo import CONFIG
from cluster.runtime import connect, coordinator_of, free_port
from cluster.service import start_service, stop_service
from lmeraser.client.client import Client
from lmeraser.config import BackboneConfig, PromptConfig, ServingConfig, load_config
from lmeraser.data import decode_image, open_source
from lmeraser.learning.backbone import create_model
from lmeraser.state.keys import init_keys
from lmeraser.state.manifest import load_manifest
from lmeraser.state.public_artifacts import create_store
from lmeraser.state.public_fit import build_public
from lmeraser.store import LocalStore
from serving.batcher import Batcher

if TYPE_CHECKING:
    from starlette.requests import Request

IMAGE_PX, PASSES, ROWS, PUBLIC_ROWS, ANCHORS = 96, 2, 600, 1200, 128
CLIENTS = (1, 8, 32)


def main() -> None:
    """Bring both up, and let them take turns under load."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder of the store; made where there is none")
    parser.add_argument("--prompt", choices=("token", "pad"), default="token", help="kind of the store's prompts")
    parser.add_argument("--seconds", type=float, default=8.0, help="of load in each turn")
    parser.add_argument("--turns", type=int, default=3, help="of each application, at each number of clients")
    parser.add_argument("--load", nargs=2, metavar=("URL", "CLIENTS"), help="be the load generator; image on stdin")
    arguments = parser.parse_args()
    if arguments.load:
        url, clients = arguments.load
        print(json.dumps(asyncio.run(load(url, int(clients), arguments.seconds, sys.stdin.buffer.read()))))
        return
    if not arguments.out.exists():
        make_store(arguments.out, PromptConfig(arguments.prompt))
    connect()
    try:
        with a_copy(Prepared(arguments.out, ())) as folder:
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
        self._batching = Batcher(self._greatest, max_images=64)

    async def __call__(self, request: Request) -> dict[str, int]:
        image_3PP = await asyncio.to_thread(decode_image, await request.body(), IMAGE_PX)
        return {"greatest": await self._batching(image_3PP[None])}

    def _greatest(self, requests: Sequence[np.ndarray]) -> list[int]:
        import torch

        with torch.inference_mode():
            pixels_N3PP = torch.from_numpy(np.concatenate(requests)).float() / 255
            passes = [self._model(pixels_N3PP) for _ in range(PASSES)]
            return passes[-1].argmax(dim=1).tolist()


def under_load(url: str, clients: int, turns: int, seconds: float) -> dict[str, Any]:
    """Both under the same load, by turns, and the service while rows are deleted."""
    addresses = {"service": f"{url}/v1/predict", "bare": f"{url}/bare"}
    turned: dict[str, list[list[float]]] = {name: [] for name in (*addresses, "while_deleting")}
    for _, (name, address) in itertools.product(range(turns), addresses.items()):
        turned[name].append(loaded(address, clients, seconds))
    completed: list[str] = []
    with meanwhile(partial(delete, url, completed)):
        for _ in range(turns):
            turned["while_deleting"].append(loaded(addresses["service"], clients, seconds))
    figured = {name: figures(answers, seconds) for name, answers in turned.items()}
    return {"clients": clients, **figured, "deletions_completed": len(completed)}


def loaded(address: str, clients: int, seconds: float) -> list[float]:
    """Latencies of what a load generator in a process of its own got answered."""
    source = open_source(load_config(CONFIG).private)
    command = [sys.executable, __file__, "--load", address, str(clients), "--seconds", str(seconds)]
    image = next(iter(source.samples(source.labels))).image
    done = subprocess.run(command, input=image, stdout=subprocess.PIPE, check=True)
    latencies: list[float] = json.loads(done.stdout)
    return latencies


def delete(url: str, completed: list[str], left: threading.Event) -> None:
    """Delete one row after the other, each when the one before is complete, and note the ids of those that are."""
    with Client(url) as client:
        for sample in samples(load_config(CONFIG), ROWS):
            if left.is_set():
                return
            deletion = client.delete(sample_ids=[sample.sample_id])
            if deletion.unknown_ids:
                continue
            completed.append(client.wait(deletion.id, timeout_s=600).id)


def figures(turns: Sequence[Sequence[float]], seconds: float) -> dict[str, float]:
    """Requests a second, the median over turns, and percentiles of the latency over all."""
    latencies = [latency for turn in turns for latency in turn]
    cuts = statistics.quantiles(latencies, n=100, method="inclusive")
    return {
        "requests_per_s": round(statistics.median(len(turn) / seconds for turn in turns), 1),
        "n": len(latencies),
        **{f"p{percent}_ms": round(cuts[percent - 1] * 1000, 1) for percent in (50, 95, 99)},
    }


async def load(url: str, clients: int, seconds: float, image: bytes) -> list[float]:
    """Latencies of the requests that were answered in time; each client sends its next after an answer."""
    latencies: list[float] = []
    async with httpx2.AsyncClient(timeout=60, headers={"Content-Type": "image/png"}) as client:
        for _ in range(3):
            (await client.post(url, content=image)).raise_for_status()
        end = time.perf_counter() + seconds

        async def one() -> None:
            while (begun := time.perf_counter()) < end:
                (await client.post(url, content=image)).raise_for_status()
                if (answered := time.perf_counter()) <= end:
                    latencies.append(answered - begun)

        await asyncio.gather(*(one() for _ in range(clients)))
    return latencies


def make_store(folder: Path, prompt: PromptConfig) -> None:
    """A store of digits whose specialists were written without tuning."""
    config = load_config(CONFIG)
    state_config = config.state(open_source(config.private).labels)
    state_config = replace(
        state_config,
        backbone=BackboneConfig(image_px=IMAGE_PX),
        prompt=prompt,
        partition=replace(state_config.partition, anchors=ANCHORS),
    )
    public = open_source(config.public)
    rows = itertools.islice(public.samples(public.labels), PUBLIC_ROWS)
    create_store(
        LocalStore(folder / "store"),
        state_config,
        build_public(state_config, create_model(state_config.backbone).state_dict(), rows),
    )
    init_keys(folder / "keys")
    prepared(folder, rows_of(Prepared(folder, ()).pipeline, samples(config, ROWS)))


if __name__ == "__main__":
    main()
