"""Let the disk run full, or become read-only, at every write of a deletion, and check the store afterwards.

Each run copies a small tuned store onto a tmpfs, and requests a deletion. Before the n-th change of the store the tmpfs
is really filled up, or made read-only. The coordinator keeps trying, as its process does; then the disk recovers, and
the same coordinator, or a new one on the same store, continues without intervention. The client repeats its request,
with the same idempotency key. Afterwards the same is checked as in ``crash_points.py`` after a kill.

    python tests/faults/disk_faults.py --out docs/evidence/disk.md

Needs the right to mount: run it under ``unshare -rm`` unless you are root.
"""

from __future__ import annotations

import argparse
import errno
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from crash_points import DELETED, IDEMPOTENCY_KEY, CrashPoints, Tally
from small_system import System

from actors.coordinator import Coordinator
from actors.owners import InProcessOwners
from cluster.cli import main as command_line
from lmeraser.deletion import DeletionRequest
from lmeraser.errors import StoreError
from lmeraser.state.keys import load_signing_key
from lmeraser.state.log import Log
from lmeraser.store import LocalStore, Store

MIB = 1024 * 1024
PAGE = 4096
REASONS = {"full": "No space left on device", "read-only": "Read-only file system"}
READING = (
    "status",
    "verify --keys {keys} --processes 1",
    "log check",
    "log show",
    "deletions list",
    "deletions show {id}",
    "clusters list",
    "receipt show {id}",
)
# Failing steps after which the disk recovers.
TRIES = 3
TIMEOUT_S = 60.0


class Disk:
    """A tmpfs that can be filled up and made read-only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fail(self, kind: str, free_pages: int) -> None:
        """Fill it up except for some pages, or make it read-only."""
        if kind == "read-only":
            subprocess.run(["mount", "-o", "remount,ro", str(self.folder)], check=True)
            return
        with self._filler.open("wb", buffering=0) as file:
            while (free := os.statvfs(self.folder).f_bavail) > free_pages:
                try:
                    os.posix_fallocate(file.fileno(), 0, file.seek(0, os.SEEK_END) + (free - free_pages) * PAGE)
                except OSError as error:
                    # Another thread has written in between.
                    if error.errno != errno.ENOSPC:
                        raise

    def recover(self) -> None:
        """Make it writable, and free the space."""
        subprocess.run(["mount", "-o", "remount,rw", str(self.folder)], check=True)
        self._filler.unlink(missing_ok=True)


@contextmanager
def small_disk(size_mib: int) -> Iterator[Disk]:
    """A tmpfs of this size. Raises CalledProcessError if mounting is not allowed."""
    with tempfile.TemporaryDirectory(prefix="lmeraser-disk-") as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", folder], check=True)
        try:
            yield Disk(Path(folder))
        finally:
            subprocess.run(["umount", folder], check=True)


class FailingStore(LocalStore):
    """Counts its changes, and can have its disk fail before one of them."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.changes: list[str] = []
        self._at = 0
        self._fail: Callable[[], None] = lambda: None

    def fail_at(self, change: int, fail: Callable[[], None]) -> None:
        """Count changes from here, and have the disk fail before this one."""
        self.changes.clear()
        self._at = change
        self._fail = fail

    def put(self, name: str, data: bytes) -> None:
        self._count("write", name)
        super().put(name, data)

    def put_if_absent(self, name: str, data: bytes) -> None:
        self._count("append", name)
        super().put_if_absent(name, data)

    def _remove(self, path: Path, name: str) -> None:
        self._count("purge", name)
        super()._remove(path, name)

    def _count(self, verb: str, name: str) -> None:
        self.changes.append(f"{verb} {name.partition('/')[0]}")
        if len(self.changes) == self._at:
            self._fail()


class DiskFaults(CrashPoints):
    """Runs on a disk that fails."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        super().__init__(folder, 0)
        self._disk = disk

    def changes(self) -> list[str]:
        """The changes that a deletion without a fault makes to the store, in order."""
        system = self._on_disk()
        store = FailingStore(Path(system.store.uri))
        coordinator = self._coordinator(system, store)
        store.changes.clear()
        coordinator.delete(DeletionRequest(DELETED, idempotency_key=IDEMPOTENCY_KEY))
        finish_in_time(coordinator)
        return store.changes

    def fault(self, kind: str, at: int, free_pages: int, successor: bool, tally: Tally) -> None:
        """One run: the disk fails at one change and recovers, and the same or a new coordinator continues."""
        system = self._on_disk()
        counting = FailingStore(Path(system.store.uri))
        coordinator = self._coordinator(system, counting)
        counting.fail_at(at, lambda: self._disk.fail(kind, free_pages))
        tally.runs += 1
        faults = self._while_it_fails(system, coordinator, kind)
        self._disk.recover()
        try:
            if successor:
                coordinator = self._coordinator(system, system.store)
            coordinator.delete(DeletionRequest(DELETED, idempotency_key=IDEMPOTENCY_KEY))
            finish_in_time(coordinator)
        except Exception as error:
            tally.lost += 1
            tally.faults.append(f"{kind}, change {at}, {successor=}: {type(error).__name__}: {error}")
            return
        tally.finished += 1
        faults += self._faults(system)
        tally.wrong += bool(faults)
        tally.faults += (f"{kind}, change {at}, {free_pages=}, {successor=}: {fault}" for fault in faults)

    def read_only_commands(self, tally: Tally) -> None:
        """Run the commands that only read on a read-only store."""
        system = self._on_disk()
        coordinator = self._coordinator(system, system.store)
        deletion = coordinator.delete(DeletionRequest(DELETED))
        finish_in_time(coordinator)
        self._disk.fail("read-only", 0)
        for command in READING:
            tally.runs += 1
            arguments = [word.format(id=deletion.id, keys=system.keys) for word in command.split()]
            if exit_code("lmeraser", *arguments, "--store", system.store.uri) == 0:
                tally.finished += 1
            else:
                tally.wrong += 1
                tally.faults.append(f"lmeraser {command} fails on a read-only store")
        self._disk.recover()

    def _while_it_fails(self, system: System, coordinator: Coordinator, kind: str) -> list[str]:
        faults = []
        try:
            coordinator.delete(DeletionRequest(DELETED, idempotency_key=IDEMPOTENCY_KEY))
        except StoreError as error:
            if REASONS[kind] not in str(error) or "cannot write " not in str(error):
                faults.append(f"the refusal says {error}")
            if any(record.kind == "request" for record in Log(system.store).advance()):
                faults.append("a request that was refused is recorded")
        refused = 0
        for _ in range(1000):
            try:
                if not coordinator.step() and coordinator.idle():
                    break
            except StoreError as error:
                if REASONS[kind] not in str(error):
                    faults.append(f"a step says {error}")
                refused += 1
                if refused == TRIES:
                    break
            if coordinator.status().failed:
                faults.append("a cluster was given up")
        return faults

    def _on_disk(self) -> System:
        for path in self._disk.folder.iterdir():
            shutil.rmtree(path)
        shutil.copytree(self._original.store.uri, self._disk.folder / "store")
        return replace(self._original, store=LocalStore(self._disk.folder / "store"))

    def _coordinator(self, system: System, store: Store) -> Coordinator:
        owners = InProcessOwners(store, system.manifest, system.hash_key, lambda: self._pipeline)
        return Coordinator(store, system.manifest, system.hash_key, load_signing_key(system.keys), owners, 0.0)


def exit_code(*arguments: str) -> int:
    """The exit code of a command, run in a forked process that need not import anything again."""
    pid = os.fork()
    if pid == 0:
        sys.argv = [*arguments]
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        try:
            command_line()
        except SystemExit as ended:
            os._exit(int(ended.code or 0))
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def finish_in_time(coordinator: Coordinator) -> None:
    """Have the coordinator do all its work, including pauses after a failed tuning."""
    until = time.monotonic() + TIMEOUT_S
    while coordinator.step() or not coordinator.idle():
        assert time.monotonic() < until, f"not finished after {TIMEOUT_S:g} s: {coordinator.status()}"


def run_all(every: int) -> dict[str, Tally]:
    """A fault of both kinds at every change, or at every n-th."""
    tallies: dict[str, Tally] = {}
    with tempfile.TemporaryDirectory(prefix="lmeraser-media-") as folder, small_disk(8) as disk:
        disk_faults = DiskFaults(Path(folder), disk)
        for number, change in list(enumerate(disk_faults.changes(), start=1))[::every]:
            for kind, free_pages in (("full", 0), ("full", 1), ("read-only", 0)):
                if change.startswith("purge") and kind == "full":
                    continue
                for successor in (False, True):
                    tally = tallies.setdefault(f"{kind} | {change}", Tally())
                    disk_faults.fault(kind, number, free_pages, successor, tally)
        disk_faults.read_only_commands(tallies.setdefault("read-only | commands that only read", Tally()))
    return dict(sorted(tallies.items()))


def table(tallies: dict[str, Tally], every: int) -> str:
    """The tallies as a page."""
    rows = {name: (tally.runs, tally.finished, tally.lost, tally.wrong) for name, tally in tallies.items()}
    cells = [*rows.items(), ("**all** | ", tuple(map(sum, zip(*rows.values(), strict=True))))]
    head = [
        "| disk | at | runs | finished | lost | wrong |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    today = datetime.now(UTC).date().isoformat()
    title = f"`python tests/faults/disk_faults.py --every {every}`, {today}, {os.cpu_count()} CPU cores."
    body = ("| " + " | ".join(map(str, (name, *counts))) + " |" for name, counts in cells)
    return "\n".join([title, "", *head, *body]) + "\n"


def main() -> int:
    """Run as the command line says; 1 if anything was lost or wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    tallies = run_all(arguments.every)
    page = table(tallies, arguments.every)
    print(page)
    if arguments.out is not None:
        arguments.out.write_text("# A disk that is full or read-only\n\n" + page)
    faults = [fault for tally in tallies.values() for fault in tally.faults]
    print(*faults, sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
