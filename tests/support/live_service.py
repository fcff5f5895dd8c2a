"""The HTTP surface over a system in this process, on its own port, with a working coordinator."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from direct_service import Service


@contextmanager
def live(service: Service) -> Iterator[str]:
    """The service's URL, for the length of the block."""
    stopped = threading.Event()

    def work() -> None:
        while not stopped.is_set():
            if not service.coordinator.coordinator.step():
                time.sleep(0.02)

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(service.app, log_level="error", lifespan="off"))
        threads = [
            threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True),
            threading.Thread(target=work, daemon=True),
        ]
        for thread in threads:
            thread.start()
        try:
            while not server.started:
                assert threads[0].is_alive(), "the service does not start"
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            stopped.set()
            for thread in threads:
                thread.join(timeout=30)
