"""Bringing up the HTTP service on Ray Serve."""

from __future__ import annotations

import logging
import socket
from dataclasses import asdict
from pathlib import Path

from ray import serve
from ray.serve.exceptions import RayServeException
from ray.util.placement_group import placement_group, remove_placement_group

from actors.remote.names import service_name
from cluster.applications import RunningServe, running_serve, shut_down, this_job, url_of
from lmeraser.config import OwnersConfig, ServingConfig
from lmeraser.errors import ConfigError, LMEraserError, NotReadyError
from lmeraser.state.manifest import load_manifest
from lmeraser.store import Store
from serving.api_keys import check_listening
from serving.app import application, reserved
from serving.problems import BODY_TIMEOUT_S

# One JSON object per line, for log collectors; Serve adds the request id.
_LOGGING = {"encoding": "JSON", "enable_access_log": False}
# Longer than a body may take to arrive, so that a slow body gets a problem document before Serve's own error.
_REQUEST_TIMEOUT_S = 2 * BODY_TIMEOUT_S
_KEEP_ALIVE_S = 30
_ROOM_TIMEOUT_S = 10
_OWNERS = OwnersConfig()


def start_service(
    store: Store, keys: Path, config: ServingConfig, host: str, port: int, owners: OwnersConfig = _OWNERS
) -> str:
    """Start the service of a store, and return once it answers.

    Replaces a service of the store that this process started, or that a command started that has ended since.

    Args:
        store: the store to serve.
        keys: the key folder, which holds the API keys.
        config: how predictions are answered.
        host: the address to listen on.
        port: the port to listen on.
        owners: how owners are placed by a coordinator that the service starts.

    Returns:
        The service's address.

    Raises:
        ConfigError: when other machines could call the service without an API key, the port is taken, or this
            cluster's Ray Serve already runs another service or listens on another address. Nothing is changed then.
        LMEraserError: when no replica starts.
    """
    check_address(store, keys, host, port)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    url = url_of(host, port)
    running = running_serve()
    if running is not None and running.url != url:
        # It runs a service of this store only, whose command has ended.
        shut_down()
        running = None
    if running is None:
        _check_port(host, port)
        serve.start(
            http_options={
                "host": host,
                "port": port,
                "request_timeout_s": _REQUEST_TIMEOUT_S,
                "keep_alive_timeout_s": _KEEP_ALIVE_S,
            }
        )
        # Another command may have been faster.
        if (running := running_serve()) is not None:
            _check_free(running, store, url)
    name = service_name(load_manifest(store).store_id, store.uri)
    _deploy(store, keys, config, owners, name=name, route="/", started_by=this_job())
    return url


def check_address(store: Store, keys: Path, host: str, port: int) -> None:
    """Check whether the service of a store may be started at an address.

    Raises:
        ConfigError: as for :func:`start_service`.
    """
    check_listening(keys, host)
    running = running_serve()
    if running is None:
        _check_port(host, port)
    else:
        _check_free(running, store, url_of(host, port))


def _check_free(running: RunningServe, store: Store, url: str) -> None:
    """Refuse if Serve runs another application, at this address or at another one."""
    for deployed in running.applications:
        if deployed.store == store.uri and (deployed.is_mine or deployed.is_left_over):
            continue
        if deployed.store == store.uri:
            raise ConfigError(f"{store.uri} is already served at {running.url}; end that service first")
        if deployed.route == "/" or running.url != url:
            served = deployed.store or f"the application {deployed.name!r}"
            raise ConfigError(
                f"Ray Serve of this Ray cluster already serves {served} at {running.url}, and has one address for "
                f"everything: end that service first, or serve {store.uri} on a Ray of its own (RAY_ADDRESS=local, "
                "another --port)"
            )


def check_room(store: Store, config: ServingConfig) -> None:
    """Check whether the cluster has room for a new replica next to the old ones, if a service runs.

    Raises:
        NotReadyError: when no node has room.
    """
    if (running := running_serve()) is None or running.of_store(store.uri) is None:
        return
    needed = reserved(config, on_gpu=load_manifest(store).config.backbone.device == "cuda")
    bundle = {"CPU": needed["num_cpus"], "GPU": needed["num_gpus"]}
    group = placement_group([{kind: amount for kind, amount in bundle.items() if amount}])
    fits = group.wait(_ROOM_TIMEOUT_S)
    remove_placement_group(group)
    if not fits:
        room = " and ".join(f"{amount:g} {kind}" for kind, amount in bundle.items() if amount)
        raise NotReadyError(
            f"no node has {room} free for a new replica next to the old ones: add a node, or end other work first"
        )


def replace_service(store: Store, keys: Path, config: ServingConfig, owners: OwnersConfig) -> bool:
    """Replace the replicas of the store's service, each new one before an old one ends; False if no service runs."""
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    running = running_serve()
    service = running.of_store(store.uri) if running is not None else None
    if service is None:
        return False
    _deploy(store, keys, config, owners, name=service.name, route=service.route, started_by=service.started_by)
    return True


def _deploy(
    store: Store,
    keys: Path,
    config: ServingConfig,
    owners: OwnersConfig,
    *,
    name: str,
    route: str | None,
    started_by: str,
) -> None:
    settings = {"store": store.uri, "keys": str(keys), "owners": asdict(owners), **asdict(config)}
    bound = application(settings, started_by)
    try:
        serve.run(bound, name=name, route_prefix=route, logging_config=_LOGGING)
    except (RayServeException, RuntimeError) as error:
        raise LMEraserError(f"the service of {store.uri} does not start: {error}") from error


def _check_port(host: str, port: int) -> None:
    try:
        # As Serve's proxy binds it.
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            return
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another --host or --port"
        ) from error


def stop_service() -> None:
    """Stop the services that this process started, and Serve itself if it runs nothing else."""
    running = running_serve()
    if running is None:
        return
    mine = [deployed.name for deployed in running.applications if deployed.is_mine]
    if len(mine) == len(running.applications):
        shut_down()
        return
    for name in mine:
        serve.delete(name)
