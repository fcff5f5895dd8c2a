"""Processes of the machine, and how they end."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def descendants(pid: int) -> Iterator[int]:
    """All processes below one, from /proc."""
    for folder in Path("/proc").iterdir():
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1]) if folder.name.isdigit() else -1
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == pid:
            yield from descendants(int(folder.name))
            yield int(folder.name)


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
