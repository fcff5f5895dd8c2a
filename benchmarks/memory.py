"""Memory of processes: the proportional set size, so that pages that they share count once (Linux)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

MIB = 1 << 20


def by_kind(pids: Iterable[int]) -> dict[str, list[int]]:
    """Bytes of each process, by what the processes are; those that have ended meanwhile are left out."""
    found: dict[str, list[int]] = defaultdict(list)
    for pid in pids:
        if (size := _pss(pid)) > 0:
            found[_kind(pid)].append(size)
    return found


def _pss(pid: int) -> int:
    try:
        found = re.search(r"^Pss: +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def _kind(pid: int) -> str:
    """What a process is: Ray writes an actor's class or a task's name into its command line."""
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
    except OSError:
        return "ended"
    if not line.startswith("ray::"):
        return Path(line).name
    # While an owner starts, its own name stands before that of its class.
    return re.sub(r"^ray::owner/.*:", "ray::", re.split(r"[.(]", line)[0].strip())
