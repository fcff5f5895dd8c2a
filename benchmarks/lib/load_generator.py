"""A load generator: ``python -m benchmarks.lib.load_generator URL CLIENTS SECONDS`` with an image on standard input.

Prints the latencies of the answers, in seconds, as a JSON list. It ends with an error when a request fails.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import httpx2

_WARM_UP_REQUESTS = 3


async def send_load(url: str, clients: int, seconds: float, image: bytes) -> list[float]:
    """Latencies of the requests that are answered in time; each client sends its next after an answer."""
    latencies: list[float] = []
    async with httpx2.AsyncClient(timeout=60, headers={"Content-Type": "image/png"}) as http:
        for _ in range(_WARM_UP_REQUESTS):
            (await http.post(url, content=image)).raise_for_status()
        end = time.perf_counter() + seconds

        async def client() -> None:
            while (begun := time.perf_counter()) < end:
                (await http.post(url, content=image)).raise_for_status()
                if (answered := time.perf_counter()) <= end:
                    latencies.append(answered - begun)

        await asyncio.gather(*(client() for _ in range(clients)))
    return latencies


if __name__ == "__main__":
    address, clients, seconds = sys.argv[1:]
    print(json.dumps(asyncio.run(send_load(address, int(clients), float(seconds), sys.stdin.buffer.read()))))
