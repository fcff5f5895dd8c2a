"""Bringing up the HTTP service on Ray Serve."""

from __future__ import annotations

import logging
import socket
from dataclasses import asdict
from pathlib import Path

from ray import serve
from ray.util.placement_group import placement_group, remove_placement_group

from lmeraser.api_keys import check_listening
from lmeraser.errors import ConfigError, NotReadyError
from lmeraser.manifest import load_manifest
from lmeraser.serving_config import ServingConfig
from lmeraser.store import Store
from serving.app import build, reserved
from serving.problems import LONGEST_BODY_S

NAME = "lmeraser"
# One JSON object a line, for a collector of logs; Serve adds the request id.
_LOGGING = {"encoding": "JSON", "enable_access_log": False}
# Longer than a body may take to arrive, so that what is slow is told by a problem document first.
_REQUEST_TIMEOUT_S = 2 * LONGEST_BODY_S
_KEEP_ALIVE_S = 30
_ROOM_WITHIN_S = 10


def start_service(store: Store, keys: Path, config: ServingConfig, host: str, port: int) -> str:
    """Start the service, or replace the one that runs; returns once it answers.

    Returns:
        Its address.

    Raises:
        ConfigError: when others than this machine could call it without a key, or the port is taken.
    """
    check_listening(keys, host)
    _check_port(host, port)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    serve.start(
        http_options={
            "host": host,
            "port": port,
            "request_timeout_s": _REQUEST_TIMEOUT_S,
            "keep_alive_timeout_s": _KEEP_ALIVE_S,
        }
    )
    _deploy(store, keys, config)
    return f"http://{host}:{port}"


def check_room(store: Store, config: ServingConfig) -> None:
    """Look whether a new replica finds room beside the old ones, where a service runs.

    Raises:
        NotReadyError: when it does not.
    """
    if NAME not in serve.status().applications:
        return
    needed = reserved(config, on_gpu=load_manifest(store).method.backbone.device == "cuda")
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
    """Replace the replicas of the service that runs, each new one before an old one ends; False where none runs."""
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    if NAME not in serve.status().applications:
        return False
    _deploy(store, keys, config)
    return True


def _deploy(store: Store, keys: Path, config: ServingConfig) -> None:
    application = build({"store": store.uri, "keys": str(keys), **asdict(config)})
    serve.run(application, name=NAME, route_prefix="/", logging_config=_LOGGING)


def _check_port(host: str, port: int) -> None:
    if serve.status().proxies:
        # Serve runs already, on a port of its own.
        return
    try:
        # As Serve's proxy binds it.
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            return
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another --host or --port"
        ) from error


def stop_service() -> None:
    """Stop the service."""
    serve.shutdown()
