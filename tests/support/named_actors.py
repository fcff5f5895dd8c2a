"""Ending detached actors, whose processors other tests wait for."""

from __future__ import annotations

import contextlib
import time

import ray

from actors.remote.names import NAMESPACE


def end_actors(store_id: str) -> None:
    """End the coordinator and the owners of a store and of its copies, until all have ended."""
    while names := sorted(name for name in _named() if store_id in name):
        # The coordinator sorts last and is ended first, because it starts owners. Ray lists ended actors for a while.
        with contextlib.suppress(ValueError):
            ray.kill(ray.get_actor(names[-1], namespace=NAMESPACE))
        time.sleep(0.02)


def _named() -> list[str]:
    actors = ray.util.list_named_actors(all_namespaces=True)
    return [actor["name"] for actor in actors if actor["namespace"] == NAMESPACE]
