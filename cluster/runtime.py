"""Starting Ray, or connecting to it, and finding the coordinator of a store."""

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
from actors.remote.names import coordinator_name
from actors.remote.owner_processes import NAMESPACE, StoreRef
from cluster.address import cluster_address, stay_on_loopback
from cluster.authentication import authenticate, token_path
from cluster.placement import owner_placement
from lmeraser.config import OwnersConfig
from lmeraser.errors import LMEraserError, StoreError
from lmeraser.state.commit import newest_commit
from lmeraser.state.fingerprint import check_fingerprint, fingerprint
from lmeraser.state.keys import load_hash_key, load_signing_key
from lmeraser.state.log import Log
from lmeraser.state.manifest import Manifest
from lmeraser.store import LocalStore, open_store
from serving.front import CALLBACK, CALLBACK_VARIABLE

_DEFAULTS = OwnersConfig()


def connect() -> None:
    """Connect to the Ray cluster of ``RAY_ADDRESS``, else to one that runs on this machine, else start one.

    ``RAY_ADDRESS=local`` starts a new one in any case. One that is started here ends with this process. All of them
    with token authentication, unless ``RAY_AUTH_MODE`` says otherwise.

    Raises:
        ConfigError: when ``RAY_ADDRESS`` is no address of Ray, or it cannot be told where Ray's token is.
        LMEraserError: when the cluster cannot be reached, refuses the token, or cannot be started.
    """
    if ray.is_initialized():
        return
    authenticate()
    # Serve replaces a proxy that is not ready in time; on a small machine that starts much at once, 5 s are not enough.
    os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "30")
    # Serve's proxy bounds no head of a request by itself.
    os.environ.setdefault(CALLBACK_VARIABLE, CALLBACK)
    options: dict[str, Any] = {
        "namespace": NAMESPACE,
        "logging_level": logging.ERROR,
        "log_to_driver": False,
        # Workers log one JSON object a line.
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
        # Such as another version of Ray or Python there.
        raise LMEraserError(f"cannot connect to Ray at {address}: {error}") from error


def _start(options: dict[str, Any]) -> None:
    stay_on_loopback()
    try:
        ray.init(address="local", include_dashboard=False, **options)
    except Exception as error:
        # Ray raises plain exceptions too. Of what it had started before nothing stays.
        ray.shutdown()
        shorter = ", with a shorter path" if "AF_UNIX" in str(error) else ""
        raise LMEraserError(
            f"cannot start Ray: {error} (its files and logs go to {get_default_ray_temp_dir()}; RAY_TMPDIR names "
            f"another folder{shorter})"
        ) from error


def coordinator_of(site: StoreRef, manifest: Manifest, owners: OwnersConfig = _DEFAULTS) -> Any:
    """The coordinator's actor handle; it is started where none runs, with its owners placed so.

    Raises:
        StoreError: when the store is a local folder, but Ray has several nodes; or a bucket that Store.check refuses.
        KeysError: when a key is missing, or the hash key is not the store's.
        FingerprintError: when the numerics here are not the store's.
    """
    # Checked here as well, so that a mistake is told to the user and not to an actor's log.
    check_fingerprint(manifest.fingerprint, fingerprint(manifest.feature_batch, manifest.fingerprint["accelerator"]))
    hash_key = load_hash_key(Path(site.keys_folder))
    load_signing_key(Path(site.keys_folder))
    store = open_store(site.store_uri)
    store.check()
    commit = newest_commit(Log(store).advance())
    if commit is not None:
        manifest.check_hash_key(commit.fixed_leaves, hash_key)
    nodes = sum(node["Alive"] for node in ray.nodes())
    if nodes > 1 and isinstance(store, LocalStore):
        raise StoreError(f"{site.store_uri} is a local folder, but Ray has {nodes} nodes: they cannot all see it")
    running = running_coordinator(manifest.store_id, site.store_uri)
    if running is not None:
        return running
    return open_coordinator(site, manifest.store_id, owner_placement(owners, store, manifest))


def running_coordinator(store_id: str, store_uri: str) -> Any | None:
    """The actor handle of a store's coordinator; None where none runs."""
    try:
        return ray.get_actor(coordinator_name(store_id, store_uri), namespace=NAMESPACE)
    except ValueError:
        return None


@contextmanager
def connected_coordinator(store_id: str, store_uri: str) -> Iterator[Any | None]:
    """The actor handle of a store's coordinator, where there is a Ray with one; starts nothing."""
    if ray.is_initialized():
        yield running_coordinator(store_id, store_uri)
        return
    authenticate()
    try:
        address = cluster_address()
        if address is not None:
            ray.init(address=address, namespace=NAMESPACE, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, LMEraserError):
        address = None
    if address is None:
        yield None
        return
    try:
        yield running_coordinator(store_id, store_uri)
    finally:
        ray.shutdown()


def free_port() -> int:
    """A TCP port of the loopback address that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
