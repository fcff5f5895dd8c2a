"""Memory of processes: the proportional set size, which counts shared pages once over all processes (Linux)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

MIB = 1 << 20


def resident_bytes() -> tuple[int, int]:
    """Bytes of this process in memory, now and at most.

    Unlike ``ru_maxrss``, the greatest number does not include the process that started this one.
    """
    status = Path("/proc/self/status").read_text()
    now, most = (re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE) for name in ("VmRSS", "VmHWM"))
    assert now is not None and most is not None
    return int(now[1]) * 1024, int(most[1]) * 1024


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


def bytes_by_kind(pids: Iterable[int]) -> dict[str, list[int]]:
    """Bytes of each process by the kind of the process; processes that end meanwhile are left out."""
    sizes: dict[str, list[int]] = defaultdict(list)
    for pid in pids:
        if (size := _pss(pid)) > 0:
            sizes[_kind(pid)].append(size)
    return sizes


def _pss(pid: int) -> int:
    try:
        match = re.search(r"^Pss: +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(match[1]) * 1024 if match else 0


def _kind(pid: int) -> str:
    """Name of the program; for Ray, that of the actor's class or the task, which Ray writes into the command line."""
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
    except OSError:
        return "ended"
    if not line.startswith("ray::"):
        return Path(line).name
    # While an owner starts, its own name precedes that of its class.
    return re.sub(r"^ray::owner/.*:", "ray::", re.split(r"[.(]", line)[0].strip())
