"""Names in Ray, where all stores share one space of them.

A store and its copy carry one store id, so a name holds where the store lies as well.
"""

from __future__ import annotations

import hashlib


def coordinator_name(store_id: str, store_uri: str) -> str:
    """The Ray name of a store's coordinator."""
    return f"coordinator/{_store_name(store_id, store_uri)}"


def owner_name(store_id: str, store_uri: str, key: str) -> str:
    """The Ray name of a cluster's owner."""
    return f"owner/{_store_name(store_id, store_uri)}/{key}"


def service_name(store_id: str, store_uri: str) -> str:
    """The name of a store's application in Ray Serve."""
    return f"lmeraser-{_store_name(store_id, store_uri)}"


def _store_name(store_id: str, store_uri: str) -> str:
    return f"{store_id}-{hashlib.sha256(store_uri.encode()).hexdigest()[:8]}"
