"""Processes of the machine, and how they end."""

from __future__ import annotations

import ipaddress
import os
import signal
from contextlib import suppress
from pathlib import Path

import psutil

from benchmarks.lib.process_memory import descendants

__all__ = ["descendants", "kill", "listening_beyond_loopback", "named"]


def named(prefix: str) -> list[int]:
    """Processes below this one whose command line begins so."""
    found = []
    for pid in descendants(os.getpid()):
        with suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(prefix.encode()):
                found.append(pid)
    return found


def kill(pid: int) -> None:
    """SIGKILL, if it has not ended by itself."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def listening_beyond_loopback(parent: int) -> set[str]:
    """Where processes below this one take connections from other machines."""
    found = set()
    for pid in descendants(parent):
        with suppress(psutil.NoSuchProcess):
            for one in psutil.Process(pid).net_connections("inet"):
                address = ipaddress.ip_address(one.laddr.ip) if one.status == psutil.CONN_LISTEN else None
                if address is not None and not (getattr(address, "ipv4_mapped", None) or address).is_loopback:
                    found.add(f"{psutil.Process(pid).name()} {one.laddr.ip}:{one.laddr.port}")
    return found
