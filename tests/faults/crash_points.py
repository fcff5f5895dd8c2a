"""Kill the process that deletes, at every fail point of a deletion and at random moments, and check the store.

Each run copies a small tuned store, and forks a process that starts the coordinator with its owners, requests a
deletion and carries it out: of rows of two coresets, after which prompts are tuned and rows embedded again; of rows
outside them, which is completed as soon as it is erased; or of the former while the store is rebuilt with larger
clusters. The process is killed with SIGKILL at the fail point or at a random moment, once or twice; then a process that
is not killed finishes, as after an operator's restart. The client repeats its request, with the same idempotency key.
Afterwards: the root is that of a fresh run on the remaining rows, the chain is valid, the request was carried out
exactly once, its receipt is valid, and no file holds the rows.

    python tests/faults/crash_points.py --runs 28 --out docs/evidence/kills.md
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from commits import receipts_of
from rebuilding import Rebuild, fresh_root
from small_system import System, build_system, finish, samples

from actors import checkpoints
from actors.coordinator import Coordinator
from actors.fail_points import EVENT, FailPoint
from actors.owners import InProcessOwners
from lmeraser.config import StateConfig
from lmeraser.deletion import DeletionRequest
from lmeraser.proof.receipts import verify_receipt
from lmeraser.state.keys import load_signing_key
from lmeraser.state.layout import DATA_FOLDERS, data_folders
from lmeraser.state.log import Log
from lmeraser.state.pipeline import Pipeline
from lmeraser.store import LocalStore

ROWS = samples(0, 24)
DELETED = ("s3", "s11")
OUTSIDE = ("s2", "s17")
IDEMPOTENCY_KEY = "crash-points"
LEASE_S = 0.02
RANDOM = "random moment"


@dataclass
class Tally:
    """The results of the runs of one kind."""

    runs: int = 0
    kills: int = 0
    finished: int = 0
    lost: int = 0
    wrong: int = 0
    faults: list[str] = field(default_factory=list)


class CrashPoints:
    """Runs on copies of one store, each of which deletes the same rows.

    Attributes:
        passed: the fail points that the deletion passes.
    """

    def __init__(self, folder: Path, seed: int, deleted: tuple[str, ...] = DELETED) -> None:
        self._folder = folder
        self._deleted = deleted
        self._random = random.Random(seed)
        self._original = build_system(folder / "original", "minute", 0)
        self._original.ingest(ROWS)
        self._pipeline: Pipeline = self._original.pipeline()
        self._root = self._expected_root()
        self._images = [row.image for row in ROWS if row.sample_id in deleted]
        begun, passed = time.monotonic(), folder / "passed"
        self._child(self._copy(), self._writing(passed))
        self._longest_s = time.monotonic() - begun
        self.passed = frozenset(passed.read_text().splitlines())

    def run(self, where: str, tally: Tally, first_pass: bool) -> None:
        """One run: kill at a fail point or at random, once or twice, then finish, then check.

        Args:
            where: the fail point, or "random moment".
            tally: of the runs there.
            first_pass: kill when the fail point is first passed, not at the second time, which may not come.
        """
        system = self._copy()
        tally.runs += 1
        for number in range(self._random.choice((1, 1, 2))):
            nth = 1 if first_pass and number == 0 else self._random.choice((1, 1, 1, 2))
            killer = self._at_random() if where == RANDOM else self._at_fail_point(where, nth)
            tally.kills += self._child(system, killer)
        if self._child(system, None):
            tally.faults.append(f"{where}: the process that was not killed did not finish")
            tally.lost += 1
            return
        faults = list(self._faults(system))
        tally.finished += 1
        tally.wrong += bool(faults)
        tally.faults += (f"{where}: {fault}" for fault in faults)
        shutil.rmtree(system.store.uri)

    def _copy(self) -> System:
        folder = self._folder / "run"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self._original.store.uri, folder)
        return replace(self._original, store=LocalStore(folder))

    def _child(self, system: System, prepare: Callable[[], None] | None) -> bool:
        """Fork a process that prepares, and carries out the deletion; whether it was killed or failed."""
        pid = os.fork()
        if pid == 0:
            try:
                if prepare is not None:
                    prepare()
                self._work(system)
            except BaseException as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        return os.waitpid(pid, 0)[1] != 0

    def _work(self, system: System) -> None:
        coordinator = self._opened(system)
        coordinator.delete(DeletionRequest(self._deleted, idempotency_key=IDEMPOTENCY_KEY))
        finish(coordinator)

    def _opened(self, system: System) -> Coordinator:
        # One deletion passes the fail points of a checkpoint, too.
        checkpoints.MAX_COMMITS = 1
        owners = InProcessOwners(system.store, system.manifest, system.hash_key, lambda: self._pipeline)
        signing_key = load_signing_key(system.keys)
        return Coordinator(
            system.store, system.manifest, system.hash_key, signing_key, owners, LEASE_S, drafting=self._drafting()
        )

    def _drafting(self) -> Executor | None:
        """Where a draft is worked on; None for the thread that steps."""
        return None

    def _expected_root(self) -> str:
        return self._original.fresh_root([row for row in ROWS if row.sample_id not in self._deleted])

    def _writing(self, file: Path) -> Callable[[], None]:
        """Write the fail points that are passed into the file."""

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            if event == EVENT:
                with file.open("a") as lines:
                    lines.write(f"{arguments[0]}\n")

        return lambda: sys.addaudithook(hook)

    def _at_fail_point(self, where: str, nth: int) -> Callable[[], None]:
        """Kill when the fail point is reached for the n-th time."""
        remaining = [nth]

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            if event == EVENT and arguments[0] == where:
                remaining[0] -= 1
                if remaining[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        return lambda: sys.addaudithook(hook)

    def _at_random(self) -> Callable[[], None]:
        delay_s = self._random.uniform(0.001, self._longest_s)

        def start() -> None:
            signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
            signal.setitimer(signal.ITIMER_REAL, delay_s)

        return start

    def _faults(self, system: System) -> list[str]:
        faults = []
        records = Log(system.store).advance()
        newest = system.newest()
        if newest.root != self._root:
            faults.append(f"the root is {newest.root[:12]}, that of a fresh run {self._root[:12]}")
        kinds = [record.kind for record in records]
        counts = {kind: kinds.count(kind) for kind in ("request", "erased", "completed", "failed")}
        if counts != {"request": 1, "erased": 1, "completed": 1, "failed": 0}:
            faults.append(f"the log has {counts}")
        receipts = system.store.names("receipts/")
        # A deletion that is completed as soon as it is erased has one receipt, which both records name.
        logged = sorted({name for names in receipts_of(system.store).values() for name in names})
        for name in receipts:
            verify_receipt(json.loads(system.store.get(name)), load_signing_key(system.keys).public_key())
        if receipts != logged:
            faults.append(f"{len(receipts)} receipts remain, and the log names {len(logged)}")
        folders = {*DATA_FOLDERS, *data_folders(system.manifest.folder)}
        listed = {name for prefix in folders for name in system.store.names(prefix)}
        if listed != newest.objects():
            faults.append(f"{len(listed ^ newest.objects())} objects are not those of the newest commit")
        unfinished = [path.name for path in Path(system.store.uri).glob(".partial/*")]
        if unfinished:
            faults.append(f"{len(unfinished)} unfinished writes remain, such as {unfinished[0]}")
        for path in Path(system.store.uri).rglob("*"):
            if path.is_file() and any(image in path.read_bytes() for image in self._images):
                faults.append(f"{path.name} holds an erased image")
        return faults


class RebuildPoints(CrashPoints):
    """Runs that rebuild the store with larger clusters, and delete the rows when the draft has them."""

    def _work(self, system: System) -> None:
        coordinator = self._opened(system)
        rebuild = Rebuild(system, self._config())
        if system.manifest.config != rebuild.config:
            rebuild.begin(coordinator)
            if not coordinator.rebuilds.switched:
                rebuild.fill(coordinator)
            # The draft of a process that was killed may have been complete.
            coordinator = system.coordinator() if coordinator.rebuilds.switched else coordinator
        coordinator.delete(DeletionRequest(self._deleted, idempotency_key=IDEMPOTENCY_KEY))
        if system.manifest.config != rebuild.config:
            coordinator = rebuild.finish(coordinator)
        finish(coordinator)

    def _config(self) -> StateConfig:
        before = self._original.manifest.config
        return replace(before, partition=replace(before.partition, max_cluster_rows=9))

    def _expected_root(self) -> str:
        rows = [row for row in ROWS if row.sample_id not in self._deleted]
        return fresh_root(self._original, self._config(), rows, self._folder / "fresh")


KINDS = ((CrashPoints, DELETED), (CrashPoints, OUTSIDE), (RebuildPoints, DELETED))


def run_all(runs: int, seed: int) -> dict[str, Tally]:
    """Runs of each deletion at each fail point that it passes, and four times as many at random moments."""
    tallies: dict[str, Tally] = {}
    with tempfile.TemporaryDirectory(prefix="lmeraser-faults-") as folder:
        deletions = []
        for number, (kind, deleted) in enumerate(KINDS):
            (own := Path(folder) / str(number)).mkdir()
            deletions.append(kind(own, seed, deleted))
        if FailPoint.TUNING_STARTED in deletions[1].passed:
            raise RuntimeError(f"{OUTSIDE} are not outside the coresets")
        for where in (*(step.value for step in FailPoint), RANDOM):
            tally = tallies[where] = Tally()
            for crash_points in deletions:
                if where == RANDOM or where in crash_points.passed:
                    for number in range(runs * (4 if where == RANDOM else 1)):
                        crash_points.run(where, tally, first_pass=number == 0)
            if where != RANDOM and not tally.kills:
                tally.faults.append(f"{where}: no deletion passes it")
            print(where, tally, flush=True)
    return tallies


def table(tallies: dict[str, Tally], runs: int, seed: int) -> str:
    """The tallies as a page."""
    total = Tally(*(sum(getattr(tally, name) for tally in tallies.values()) for name in ("runs", "kills", "finished")))
    total.lost, total.wrong = (sum(getattr(tally, name) for tally in tallies.values()) for name in ("lost", "wrong"))
    lines = [
        "# Kills at every fail point",
        "",
        f"`python tests/faults/crash_points.py --runs {runs} --seed {seed}`, {datetime.now(UTC).date().isoformat()}, "
        f"{os.cpu_count()} CPU cores.",
        "Coordinator and owners run in one process that is killed with SIGKILL once or twice per run; the script says",
        "what is checked afterwards.",
        "",
        "| killed at | runs | kills | finished | lost | wrong |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *(
            f"| {name} | {tally.runs} | {tally.kills} | {tally.finished} | {tally.lost} | {tally.wrong} |"
            for name, tally in (*tallies.items(), ("**all**", total))
        ),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run as the command line says; 1 if anything was lost or wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    tallies = run_all(arguments.runs, arguments.seed)
    if arguments.out is not None:
        arguments.out.write_text(table(tallies, arguments.runs, arguments.seed))
    faults = [fault for tally in tallies.values() for fault in tally.faults]
    print(*faults, sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
