"""The Ray namespace of all actors, and the names of actors and applications in it.

All stores share the namespace. A store and its copy have the same store id, so names also depend on where the store
is (decision 18).
"""

from __future__ import annotations

import hashlib

NAMESPACE = "lmeraser"


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
