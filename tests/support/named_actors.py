"""Actors that outlive a test hold what others wait for."""

from __future__ import annotations

import contextlib
import time

import ray

from actors.owner_process import NAMESPACE


def end_actors(store_id: str) -> None:
    """End the registrar and the owners of a store and of its copies, until none is left."""
    while mine := sorted(actor["name"] for actor in _named() if store_id in actor["name"]):
        # The registrar sorts last and goes first, for it starts owners. Ray lists what it ends for a while.
        with contextlib.suppress(ValueError):
            ray.kill(ray.get_actor(mine[-1], namespace=NAMESPACE))
        time.sleep(0.02)


def _named() -> list[dict[str, str]]:
    return list(ray.util.list_named_actors(all_namespaces=True))
