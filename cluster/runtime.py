"""Starting Ray or connecting to it, and finding the coordinator of a store."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray._common.utils import get_default_ray_temp_dir

from actors.remote.coordinator_actor import open_coordinator
from actors.remote.names import NAMESPACE, coordinator_name
from actors.remote.owner_resources import owner_placement
from actors.remote.placement import StoreRef
from cluster.address import cluster_address, stay_on_loopback
from cluster.authentication import authenticate, token_path
from lmeraser.config import DeletionsConfig, OwnersConfig
from lmeraser.errors import LMEraserError, StoreError
from lmeraser.state.checkpoint import CommitReader
from lmeraser.state.keys import load_hash_key, load_signing_key
from lmeraser.state.manifest import Manifest
from lmeraser.store import LocalStore, open_store
from serving.front import CALLBACK, CALLBACK_VARIABLE

_DEFAULTS = OwnersConfig()
_UNCHANGED = DeletionsConfig()


def connect() -> None:
    """Connect to the Ray cluster at ``RAY_ADDRESS``, else to one that runs on this machine, else start one.

    ``RAY_ADDRESS=local`` always starts a new one. A Ray that is started here ends with this process. Uses token
    authentication unless ``RAY_AUTH_MODE`` is set to another mode.

    Raises:
        ConfigError: when ``RAY_ADDRESS`` is not an address of Ray, or the path of Ray's token is unknown.
        LMEraserError: when the cluster cannot be reached, refuses the token, or cannot be started.
    """
    if ray.is_initialized():
        return
    authenticate()
    # Serve replaces a proxy that is not ready in time; 5 s, its default, are too short on a small, busy machine.
    os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "30")
    # Serve's proxy does not limit the head of a request by itself.
    os.environ.setdefault(CALLBACK_VARIABLE, CALLBACK)
    options: dict[str, Any] = {
        "namespace": NAMESPACE,
        "logging_level": logging.ERROR,
        "log_to_driver": False,
        # Workers log one JSON object per line.
        "logging_config": ray.LoggingConfig(encoding="JSON", log_level="ERROR"),
    }
    address = cluster_address()
    if address is None:
        _start(options)
        return
    try:
        ray.init(address=address, **options)
    except ConnectionError as error:
        raise LMEraserError(
            f"cannot connect to Ray at {address}: the token in {token_path()} is not that cluster's "
            f"(RAY_AUTH_TOKEN_PATH names another file), or it does not answer: {error}"
        ) from error
    except (RuntimeError, ValueError) as error:
        # For example, the cluster has another version of Ray or Python.
        raise LMEraserError(f"cannot connect to Ray at {address}: {error}") from error


def _start(options: dict[str, Any]) -> None:
    stay_on_loopback()
    try:
        ray.init(address="local", include_dashboard=False, **options)
    except Exception as error:
        # Ray raises plain exceptions too. End what it had started before.
        ray.shutdown()
        shorter = ", with a shorter path" if "AF_UNIX" in str(error) else ""
        raise LMEraserError(
            f"cannot start Ray: {error} (its files and logs go to {get_default_ray_temp_dir()}; RAY_TMPDIR names "
            f"another folder{shorter})"
        ) from error


def coordinator_of(
    site: StoreRef,
    manifest: Manifest,
    owners: OwnersConfig = _DEFAULTS,
    deletions: DeletionsConfig = _UNCHANGED,
) -> Any:
    """The coordinator's actor handle; the coordinator is started if none runs, with its owners placed as configured.

    What deletions need from now on is recorded, where that is configured.

    Raises:
        StoreError: when the store is a local folder but Ray has several nodes, or is a bucket that Store.check refuses.
        KeysError: when a key is missing, or the hash key is not the store's.
    """
    hash_key = load_hash_key(Path(site.keys_folder))
    load_signing_key(Path(site.keys_folder))
    store = open_store(site.store_uri)
    store.check()
    commit = CommitReader(store).advance()
    if commit is not None:
        manifest.check_hash_key(commit.fixed_leaves, hash_key)
    nodes = sum(node["Alive"] for node in ray.nodes())
    if nodes > 1 and isinstance(store, LocalStore):
        raise StoreError(f"{site.store_uri} is a local folder, but Ray has {nodes} nodes, which cannot all read it")
    coordinator = running_coordinator(manifest.store_id, site.store_uri)
    if coordinator is None:
        coordinator = open_coordinator(site, manifest.store_id, owner_placement(owners, store, manifest))
    if deletions.required is not None:
        ray.get(coordinator.require_approval.remote(deletions.required))
    return coordinator


def running_coordinator(store_id: str, store_uri: str) -> Any | None:
    """The actor handle of a store's coordinator; None if none runs."""
    try:
        return ray.get_actor(coordinator_name(store_id, store_uri), namespace=NAMESPACE)
    except ValueError:
        return None


@contextmanager
def connected_coordinator(store_id: str, store_uri: str) -> Iterator[Any | None]:
    """The actor handle of a store's coordinator; None if no Ray or no coordinator runs. Starts neither."""
    if ray.is_initialized():
        yield running_coordinator(store_id, store_uri)
        return
    authenticate()
    try:
        address = cluster_address()
        if address is not None:
            ray.init(address=address, namespace=NAMESPACE, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError, LMEraserError):
        address = None
    if address is None:
        yield None
        return
    try:
        yield running_coordinator(store_id, store_uri)
    finally:
        ray.shutdown()


def free_port() -> int:
    """A free TCP port of the loopback address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
