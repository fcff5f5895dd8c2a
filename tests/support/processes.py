"""Processes of the machine, and how they end."""

from __future__ import annotations

import ipaddress
import os
import signal
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path

import psutil

from benchmarks.lib.process_memory import descendants

__all__ = ["REPLICA", "descendants", "kill", "listening_beyond_loopback", "named"]

# Without that of the deployment that supervises the coordinator.
REPLICA = "ray::ServeReplica:*:lmeraser"


def named(beginning: str) -> list[int]:
    """Descendants of this process whose command line begins like this; ``*`` stands for anything."""
    pids = []
    for pid in descendants(os.getpid()):
        with suppress(FileNotFoundError, ProcessLookupError):
            if fnmatch(Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace"), f"{beginning}*"):
                pids.append(pid)
    return pids


def kill(pid: int) -> None:
    """Send SIGKILL, unless the process has already ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def listening_beyond_loopback(parent: int) -> set[str]:
    """Name, address and port of each descendant that accepts connections from other machines."""
    listeners = set()
    for pid in descendants(parent):
        with suppress(psutil.NoSuchProcess):
            for connection in psutil.Process(pid).net_connections("inet"):
                if connection.status != psutil.CONN_LISTEN:
                    continue
                address = ipaddress.ip_address(connection.laddr.ip)
                if not (getattr(address, "ipv4_mapped", None) or address).is_loopback:
                    listeners.add(f"{psutil.Process(pid).name()} {connection.laddr.ip}:{connection.laddr.port}")
    return listeners
