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
from lmeraser.config import ServingConfig
from lmeraser.errors import ConfigError, LMEraserError, NotReadyError
from lmeraser.state.manifest import load_manifest
from lmeraser.store import Store
from serving.api_keys import check_listening
from serving.app import application, reserved
from serving.problems import BODY_TIMEOUT_S

# One JSON object a line, for a collector of logs; Serve adds the request id.
_LOGGING = {"encoding": "JSON", "enable_access_log": False}
# Longer than a body may take to arrive, so that what is slow is told by a problem document first.
_REQUEST_TIMEOUT_S = 2 * BODY_TIMEOUT_S
_KEEP_ALIVE_S = 30
_ROOM_WITHIN_S = 10


def start_service(store: Store, keys: Path, config: ServingConfig, host: str, port: int) -> str:
    """Start the service of a store, or replace the one that this process started, or a command that has ended since.

    Returns once it answers.

    Returns:
        Its address.

    Raises:
        ConfigError: when others than this machine could call it without a key, the port is taken, or Ray Serve of this
            cluster answers for another service or elsewhere already. What runs is left as it is.
        LMEraserError: when no replica comes up.
    """
    check_address(store, keys, host, port)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    url = url_of(host, port)
    running = running_serve()
    if running is not None and running.url != url:
        # Nothing but a service of this store that nobody watches any more.
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
        # Another command may have been first.
        if (running := running_serve()) is not None:
            _check_free(running, store, url)
    name = service_name(load_manifest(store).store_id, store.uri)
    _deploy(store, keys, config, name=name, route="/", started_by=this_job())
    return url


def check_address(store: Store, keys: Path, host: str, port: int) -> None:
    """Look whether the service of a store may be started there.

    Raises:
        ConfigError: as :func:`start_service`.
    """
    check_listening(keys, host)
    running = running_serve()
    if running is None:
        _check_port(host, port)
    else:
        _check_free(running, store, url_of(host, port))


def _check_free(running: RunningServe, store: Store, url: str) -> None:
    """Refuse where Serve answers for others, at the address that was asked for or at another."""
    for one in running.applications:
        if one.store == store.uri and (one.is_mine or one.is_left_over):
            continue
        if one.store == store.uri:
            raise ConfigError(f"{store.uri} is served at {running.url} already; end that service first")
        if one.route == "/" or running.url != url:
            what = one.store or f"the application {one.name!r}"
            raise ConfigError(
                f"Ray Serve of this Ray cluster answers at {running.url} for {what}, and has one address for all: end "
                f"that service first, or serve {store.uri} on a Ray of its own (RAY_ADDRESS=local, another --port)"
            )


def check_room(store: Store, config: ServingConfig) -> None:
    """Look whether a new replica finds room beside the old ones, where a service runs.

    Raises:
        NotReadyError: when it does not.
    """
    if (running := running_serve()) is None or running.of_store(store.uri) is None:
        return
    needed = reserved(config, on_gpu=load_manifest(store).config.backbone.device == "cuda")
    bundle = {"CPU": needed["num_cpus"], "GPU": needed["num_gpus"]}
    held = placement_group([{kind: amount for kind, amount in bundle.items() if amount}])
    fits = held.wait(_ROOM_WITHIN_S)
    remove_placement_group(held)
    if not fits:
        room = " and ".join(f"{amount:g} {kind}" for kind, amount in bundle.items() if amount)
        raise NotReadyError(
            f"no node has {room} free for a new replica beside the old ones: add a node, or end other work first"
        )


def replace_service(store: Store, keys: Path, config: ServingConfig) -> bool:
    """Replace the replicas of the store's service, each new one before an old one ends; False where none runs."""
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    running = running_serve()
    found = running.of_store(store.uri) if running is not None else None
    if found is None:
        return False
    _deploy(store, keys, config, name=found.name, route=found.route, started_by=found.started_by)
    return True


def _deploy(store: Store, keys: Path, config: ServingConfig, *, name: str, route: str | None, started_by: str) -> None:
    bound = application({"store": store.uri, "keys": str(keys), **asdict(config)}, started_by)
    try:
        serve.run(bound, name=name, route_prefix=route, logging_config=_LOGGING)
    except (RayServeException, RuntimeError) as error:
        raise LMEraserError(f"the service of {store.uri} does not come up: {error}") from error


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
    """Stop the services that this process started, and Serve itself where it runs nothing else."""
    running = running_serve()
    mine = [one.name for one in running.applications if one.is_mine] if running is not None else []
    if running is not None and len(mine) == len(running.applications):
        shut_down()
        return
    for name in mine:
        serve.delete(name)
