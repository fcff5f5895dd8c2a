"""Which Ray to connect to. It is looked for before Ray's own client is, which waits a quarter of an hour for one."""

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
_ANSWERS_WITHIN_S = 5.0
# A busy machine takes long to greet; what is no Ray never does.
_GREETS_WITHIN_S = 20.0


def cluster_address() -> str | None:
    """The address of the Ray to connect to: that of ``RAY_ADDRESS``, else of one on this machine.

    Returns:
        It, as ``ray.init`` takes it; None where one is to be started: for ``RAY_ADDRESS=local``, or when it is not set
        and no Ray runs here.

    Raises:
        ConfigError: when RAY_ADDRESS is no address of Ray.
        LMEraserError: when none answers there.
    """
    given = os.environ.get(VARIABLE) or None
    if given == "local":
        return None
    if given in (None, "auto"):
        # What `ray start` wrote down stays there when that Ray has died.
        noted = services.find_bootstrap_address(None)
        found = next((one for one in (noted, *sorted(services.find_gcs_addresses())) if one and _is_ray(one)), None)
        if found is None and given is not None:
            raise LMEraserError(f"no Ray runs on this machine, which {VARIABLE}=auto asks for: `ray start --head` does")
        return found
    if given.startswith(_CLIENT):
        if not _answers(*_parsed(given.removeprefix(_CLIENT), given)):
            raise LMEraserError(f"nothing answers at {given} ({VARIABLE})")
        return given
    _parsed(given, given)
    if not _is_ray(given):
        raise LMEraserError(
            f"cannot connect to Ray at {given} ({VARIABLE}): nothing answers there, or it is no Ray; `ray start` "
            f"prints the address of one. Without {VARIABLE} a Ray of this machine is taken, or started"
        )
    return given


def stay_on_loopback() -> None:
    """Have a Ray that this process starts listen on this machine alone, but for one port of each of Serve's replicas.

    Its own option for that is made for systems whose firewall asks the user about every port.
    """
    if os.environ.setdefault(ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, "0") == "0":
        # Read from the variable when Ray is imported.
        ray_constants.ENABLE_RAY_CLUSTER = False


def _parsed(text: str, given: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if "/" in text or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        dashboard = " That is a dashboard's address, which `ray job submit --address` takes." if "http" in given else ""
        raise ConfigError(
            f"{VARIABLE} is {given!r}; allowed is host:port of Ray itself (6379 by default), ray://host:port, 'auto' "
            f"or 'local'.{dashboard}"
        )
    return host.removeprefix("[").removesuffix("]"), int(port)


def _is_ray(address: str) -> bool:
    host, port = _parsed(address, address)
    if host in _LOOPBACK and not _answers(services.resolve_ip_for_localhost(host), port):
        # Ray takes loopback for the machine's own address; one that was told to stay on loopback is not there.
        if not _answers(host, port):
            return False
        stay_on_loopback()
    if not _answers(host, port):
        return False
    channel = init_grpc_channel(address)
    try:
        grpc.channel_ready_future(channel).result(timeout=_GREETS_WITHIN_S)
    except grpc.FutureTimeoutError:
        return False
    finally:
        channel.close()
    return True


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=_ANSWERS_WITHIN_S):
            return True
    except OSError:
        return False
