"""Which Ray to connect to. The address is checked first, because Ray's own client waits 15 minutes for an answer."""

from __future__ import annotations

import os
import socket

import grpc
from ray._private import ray_constants, services
from ray._private.grpc_utils import init_grpc_channel

from lmeraser.errors import ConfigError, LMEraserError

VARIABLE = "RAY_ADDRESS"
_CLIENT = "ray://"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_CONNECT_TIMEOUT_S = 5.0
# Ray on a busy machine takes long to answer; anything else never does.
_GRPC_TIMEOUT_S = 20.0


def cluster_address() -> str | None:
    """The address of the Ray cluster to connect to: ``RAY_ADDRESS``, else that of one on this machine.

    Returns:
        The address in the form that ``ray.init`` takes. None if a new Ray is to be started: for ``RAY_ADDRESS=local``,
        or if ``RAY_ADDRESS`` is not set and no Ray runs on this machine.

    Raises:
        ConfigError: when ``RAY_ADDRESS`` is not an address of Ray.
        LMEraserError: when no Ray answers there.
    """
    given = os.environ.get(VARIABLE) or None
    if given == "local":
        return None
    if given in (None, "auto"):
        # The address that `ray start` wrote down stays there after that Ray has died.
        recorded = services.find_bootstrap_address(None)
        candidates = (recorded, *sorted(services.find_gcs_addresses()))
        address = next((candidate for candidate in candidates if candidate and _is_ray(candidate)), None)
        if address is None and given is not None:
            raise LMEraserError(f"{VARIABLE} is auto, but no Ray runs on this machine: `ray start --head` starts one")
        return address
    if given.startswith(_CLIENT):
        if not _answers(*_parsed(given.removeprefix(_CLIENT), given)):
            raise LMEraserError(f"nothing answers at {given} ({VARIABLE})")
        return given
    _parsed(given, given)
    if not _is_ray(given):
        raise LMEraserError(
            f"cannot connect to Ray at {given} ({VARIABLE}): nothing answers there, or it is not Ray; `ray start` "
            f"prints the address of a Ray. Without {VARIABLE}, a Ray on this machine is used, or started"
        )
    return given


def stay_on_loopback() -> None:
    """Make a Ray that this process starts listen on loopback only, except for one port per replica of Serve.

    Ray has this option for systems whose firewall asks the user about every port.
    """
    if os.environ.setdefault(ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, "0") == "0":
        # Ray reads the variable when it is imported.
        ray_constants.ENABLE_RAY_CLUSTER = False


def _parsed(text: str, given: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if "/" in text or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        dashboard = (
            " This looks like a dashboard's address, which `ray job submit --address` takes." if "http" in given else ""
        )
        raise ConfigError(
            f"{VARIABLE} is {given!r}; allowed is host:port of Ray itself (6379 by default), ray://host:port, 'auto' "
            f"or 'local'.{dashboard}"
        )
    return host.removeprefix("[").removesuffix("]"), int(port)


def _is_ray(address: str) -> bool:
    host, port = _parsed(address, address)
    if host in _LOOPBACK and not _answers(services.resolve_ip_for_localhost(host), port):
        # Ray replaces loopback by the machine's own address, on which a Ray that stays on loopback does not listen.
        if not _answers(host, port):
            return False
        stay_on_loopback()
    if not _answers(host, port):
        return False
    channel = init_grpc_channel(address)
    try:
        grpc.channel_ready_future(channel).result(timeout=_GRPC_TIMEOUT_S)
    except grpc.FutureTimeoutError:
        return False
    finally:
        channel.close()
    return True


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=_CONNECT_TIMEOUT_S):
            return True
    except OSError:
        return False
